package filestore

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

func appLabels(i int) labels.Set {
	return labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: fmt.Sprint("a", i)})
}

func TestPublishingTheSameTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	ctx := context.Background()
	id, err := s.Allocate(ctx, appLabels(1))
	require.NoError(t, err)
	e := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 1, Identity: id, Node: "n1", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	n := cluster.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}
	publish := func() (stamps [2]stamp) {
		require.NoError(t, s.PublishEndpoint(ctx, e))
		require.NoError(t, s.PublishNode(ctx, n))
		for i, name := range []string{"status/endpoints/shop/web.json", "status/nodes/n1.json"} {
			var st unix.Stat_t
			require.NoError(t, unix.Stat(filepath.Join(dir, name), &st))
			stamps[i] = stampOf(&st)
		}
		return stamps
	}
	before := publish()
	assert.Equal(t, before, publish())
	e.ID, n.Labels = 2, map[string]string{"a": "b"}
	after := publish()
	assert.NotEqual(t, before[0], after[0])
	assert.NotEqual(t, before[1], after[1])
	data, err := os.ReadFile(filepath.Join(dir, "status/endpoints/shop/web.json"))
	require.NoError(t, err)
	assert.Contains(t, string(data), `"k8s:app=a1"`, "readers see what the identity stands for")
	left, err := filepath.Glob(filepath.Join(dir, "status/*/.new-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

const allocatorDir = "WEIR_TEST_ALLOCATOR_DIR"

// allocateAll is what a child process of TestAllocateFromSeveralProcesses does.
func allocateAll() {
	s, err := Open(Options{Dir: os.Getenv(allocatorDir)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; i < 30; i++ {
		id, err := s.Allocate(context.Background(), appLabels(i))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i, uint32(id))
	}
}

func TestAllocateFromSeveralProcesses(t *testing.T) {
	dir := t.TempDir()
	const processes = 4
	var children []*exec.Cmd
	var outs []*strings.Builder
	for i := 0; i < processes; i++ {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), allocatorDir+"="+dir)
		out := &strings.Builder{}
		c.Stdout, c.Stderr = out, out
		require.NoError(t, c.Start())
		children, outs = append(children, c), append(outs, out)
	}
	for i, c := range children {
		require.NoError(t, c.Wait(), outs[i].String())
		assert.Equal(t, outs[0].String(), outs[i].String(), "the same labels have the same number in every process")
	}
	seen := map[string]bool{}
	lines := strings.Split(strings.TrimSpace(outs[0].String()), "\n")
	for _, line := range lines {
		_, id, _ := strings.Cut(line, " ")
		seen[id] = true
	}
	assert.Len(t, lines, 30)
	assert.Len(t, seen, 30, "different labels have different numbers")
}

func TestDamagedIdentityKeepsItsNumber(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	ctx := context.Background()
	id, err := s.Allocate(ctx, appLabels(1))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.path(identitiesDir, identityFile(id)), []byte("{"), 0o644))
	again, err := open(t, Options{Dir: dir}).Allocate(ctx, appLabels(1))
	require.NoError(t, err)
	assert.Equal(t, id+1, again)
	require.NoError(t, os.WriteFile(s.path(identityBook), []byte("{"), 0o644))
	_, err = s.Allocate(ctx, appLabels(2))
	assert.ErrorContains(t, err, ".book.json")
}

func TestCollectStopsAtAnUnreadableEndpoint(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	_, err := s.Allocate(context.Background(), appLabels(1))
	require.NoError(t, err)
	put(t, dir, map[string]string{"status/endpoints/shop/web.json": "{"})
	gone, err := s.Collect(context.Background(), 0)
	assert.Error(t, err)
	assert.Empty(t, gone)
}

func TestLockIsReleasedAndGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(context.Background(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = lock(ctx, path)
	assert.ErrorIs(t, err, context.Canceled)
	unlock()
	unlock, err = lock(context.Background(), path)
	require.NoError(t, err)
	unlock()
}

func TestAttachmentsNameADamagedFile(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenAttachments(dir)
	require.NoError(t, err)
	require.NoError(t, a.Save(ports.Attachment{ContainerID: "c1", Interface: "eth0"}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.json"), []byte("{"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".new-123"), []byte("{"), 0o600))
	all, err := a.Load()
	assert.ErrorContains(t, err, "bad.json")
	assert.Len(t, all, 1)
}

// Writing an identity's file by hand does not let its number be given out again.
func TestAllocateGoesBeyondExistingNumbers(t *testing.T) {
	dir := t.TempDir()
	doc, err := manifest.EncodeIdentity(4000, appLabels(7))
	require.NoError(t, err)
	s := open(t, Options{Dir: dir})
	put(t, dir, map[string]string{"status/identities/4000.json": string(doc)})
	id, err := s.Allocate(context.Background(), appLabels(7))
	require.NoError(t, err)
	assert.Equal(t, identity.ID(4000), id)
	id, err = s.Allocate(context.Background(), appLabels(8))
	require.NoError(t, err)
	assert.Equal(t, identity.ID(4001), id)
}
