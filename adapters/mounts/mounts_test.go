package mounts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/adapters/mounts"
)

// machine is a process with mount and cgroup namespaces of its own; it returns its directory below /proc.
func machine(t *testing.T) string {
	t.Helper()
	c := exec.Command("unshare", "-m", "-C", "--propagation", "private", "sleep", "60")
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	proc := filepath.Join("/proc", itoa(c.Process.Pid))
	mine, err := os.Readlink("/proc/self/ns/mnt")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		name, _ := os.ReadFile(filepath.Join(proc, "comm"))
		its, err := os.Readlink(filepath.Join(proc, "ns/mnt"))
		return err == nil && its != mine && strings.TrimSpace(string(name)) == "sleep"
	}, 5*time.Second, 10*time.Millisecond)
	return proc
}

func itoa(n int) string {
	b := []byte{}
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func kindOf(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(path, &st))
	return int64(st.Type)
}

func TestInTheMachinesNamespaces(t *testing.T) {
	needs.Root(t, "mount file systems")
	for fs, magic := range map[*mounts.FileSystem]int64{&mounts.Cgroup2: unix.CGROUP2_SUPER_MAGIC, &mounts.BPF: unix.BPF_FS_MAGIC} {
		proc := machine(t)
		path := filepath.Join(t.TempDir(), "a/b")
		mounted, err := mounts.Ensure(*fs, proc, path)
		require.NoError(t, err)
		assert.True(t, mounted)
		assert.Equal(t, magic, kindOf(t, filepath.Join(proc, "root", path)), "the machine has it")
		assert.NotEqual(t, magic, kindOf(t, path), "this process does not")
		mounted, err = mounts.Ensure(*fs, proc, path)
		require.NoError(t, err)
		assert.False(t, mounted, "once is enough")
		b, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
		require.NoError(t, err)
		assert.Equal(t, 1, strings.Count(string(b), " "+path+" "))
	}
}

func TestWhatCannotBe(t *testing.T) {
	needs.Root(t, "mount file systems")
	for _, path := range []string{"", "relative", "/a\x00b"} {
		_, err := mounts.Ensure(mounts.BPF, "", path)
		assert.ErrorContains(t, err, "must be absolute", "%q", path)
	}
	_, err := mounts.Ensure(mounts.BPF, "/proc/0", "/x")
	assert.ErrorContains(t, err, "mnt namespace")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = mounts.Ensure(mounts.BPF, machine(t), file)
	assert.Error(t, err)
}
