package configdir_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/configdir"
)

// mounted is a ConfigMap as the kubelet mounts it: links to links to the files of a directory that is
// exchanged.
type mounted struct {
	t   *testing.T
	dir string
	n   int
}

func (m *mounted) put(values map[string]string) {
	m.t.Helper()
	m.n++
	data := filepath.Join(m.dir, "..data_"+strings.Repeat("x", m.n))
	require.NoError(m.t, os.Mkdir(data, 0o755))
	for k, v := range values {
		require.NoError(m.t, os.WriteFile(filepath.Join(data, k), []byte(v), 0o644))
	}
	tmp := filepath.Join(m.dir, "..data_tmp")
	require.NoError(m.t, os.Symlink(filepath.Base(data), tmp))
	require.NoError(m.t, os.Rename(tmp, filepath.Join(m.dir, "..data")))
	for k := range values {
		_ = os.Symlink(filepath.Join("..data", k), filepath.Join(m.dir, k))
	}
	entries, err := os.ReadDir(m.dir)
	require.NoError(m.t, err)
	for _, e := range entries {
		if _, ok := values[e.Name()]; !ok && !strings.HasPrefix(e.Name(), ".") {
			require.NoError(m.t, os.Remove(filepath.Join(m.dir, e.Name())))
		}
	}
}

func TestRead(t *testing.T) {
	m := &mounted{t: t, dir: t.TempDir()}
	m.put(map[string]string{"debug": "true\n", "mtu": " 1400", "labels": ""})
	require.NoError(t, os.Mkdir(filepath.Join(m.dir, "folder"), 0o755))
	got, err := configdir.Read(m.dir)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"debug": "true", "mtu": "1400", "labels": ""}, got)

	_, err = configdir.Read(filepath.Join(m.dir, "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "huge"), make([]byte, 1<<20+1), 0o644))
	_, err = configdir.Read(m.dir)
	assert.ErrorContains(t, err, "huge")
}

func TestWatch(t *testing.T) {
	m := &mounted{t: t, dir: t.TempDir()}
	first := map[string]string{"a": "1", "b": "2"}
	m.put(first)
	ctx, cancel := context.WithCancel(context.Background())
	news, failures, ended := make(chan map[string]string, 10), make(chan error, 10), make(chan struct{})
	go func() {
		defer close(ended)
		configdir.Watch(ctx, m.dir, 5*time.Millisecond, first, func(v map[string]string) { news <- v }, func(err error) { failures <- err })
	}()
	await := func(want map[string]string) {
		t.Helper()
		select {
		case got := <-news:
			assert.Equal(t, want, got)
		case <-time.After(5 * time.Second):
			t.Fatal("nothing was told")
		}
	}
	time.Sleep(30 * time.Millisecond)
	m.put(first) // exchanged, and the same
	time.Sleep(30 * time.Millisecond)
	assert.Empty(t, news)
	m.put(map[string]string{"a": "3", "b": "2"})
	await(map[string]string{"a": "3", "b": "2"})

	require.NoError(t, os.Rename(m.dir, m.dir+".away"))
	select {
	case err := <-failures:
		assert.ErrorIs(t, err, os.ErrNotExist)
	case <-time.After(5 * time.Second):
		t.Fatal("no failure was told")
	}
	time.Sleep(30 * time.Millisecond)
	assert.Empty(t, failures, "each failure is told once")
	require.NoError(t, os.Rename(m.dir+".away", m.dir))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "c"), []byte("4"), 0o644))
	await(map[string]string{"a": "3", "b": "2", "c": "4"})
	cancel()
	<-ended
}
