package netns_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
)

// current names the calling thread's namespace.
func current(t *testing.T) string {
	s, err := os.Readlink("/proc/thread-self/ns/net")
	assert.NoError(t, err)
	return s
}

func TestDo(t *testing.T) {
	netnstest.Require(t)
	outside := current(t)
	path := netns.Path(netnstest.New(t))
	var first, again string
	require.NoError(t, netns.Do(path, func() error {
		first = current(t)
		ifs, err := net.Interfaces()
		require.NoError(t, err)
		assert.Len(t, ifs, 1)
		assert.NotZero(t, ifs[0].Flags&net.FlagUp, "loopback is up")
		return nil
	}))
	require.NoError(t, netns.Do(path, func() error { again = current(t); return nil }))
	assert.NotEqual(t, outside, first)
	assert.Equal(t, first, again)
	require.NoError(t, netns.Do("", func() error { assert.Equal(t, outside, current(t)); return nil }))

	broken := errors.New("broken")
	assert.ErrorIs(t, netns.Do(path, func() error { return broken }), broken)
	assert.PanicsWithValue(t, "oh", func() { netns.Do(path, func() error { panic("oh") }) })
	assert.ErrorIs(t, netns.Do("/run/netns/no-such-namespace", func() error { return nil }), fs.ErrNotExist)

	same, err := netns.Same(path, path)
	require.NoError(t, err)
	assert.True(t, same)
	same, err = netns.Same("", path)
	require.NoError(t, err)
	assert.False(t, same)
}

// No goroutine outside may ever find itself inside.
func TestDoLeavesOtherGoroutinesOutside(t *testing.T) {
	netnstest.Require(t)
	outside := current(t)
	path := netns.Path(netnstest.New(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				assert.NoError(t, netns.Do(path, func() error { assert.NotEqual(t, outside, current(t)); return nil }))
			}
		})
		wg.Go(func() {
			for range 200 {
				assert.Equal(t, outside, current(t))
			}
		})
	}
	wg.Wait()
	process, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	assert.Equal(t, outside, process, "the main thread's, which stands for the process")
}

func TestCreateAndDelete(t *testing.T) {
	netnstest.Require(t)
	name := netnstest.New(t)
	names, err := netns.List()
	require.NoError(t, err)
	assert.Contains(t, names, name)
	_, err = netns.Create(name)
	assert.ErrorIs(t, err, fs.ErrExist)

	require.NoError(t, netns.Delete(name))
	require.NoError(t, netns.Delete(name), "absent is no error")
	_, err = os.Stat(netns.Path(name))
	assert.ErrorIs(t, err, fs.ErrNotExist)

	// What a crash between making the file and mounting the namespace leaves.
	require.NoError(t, os.WriteFile(netns.Path(name), nil, 0o444))
	_, err = netns.Open(netns.Path(name))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	names, err = netns.List()
	require.NoError(t, err)
	assert.NotContains(t, names, name)
	_, err = netns.Create(name)
	assert.NoError(t, err)

	for _, bad := range []string{"", ".", "..", "a/b"} {
		_, err = netns.Create(bad)
		assert.Error(t, err, bad)
		assert.Error(t, netns.Delete(bad), bad)
	}
}
