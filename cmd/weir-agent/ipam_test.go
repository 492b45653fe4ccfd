package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

func TestAnotherIPAMModeNeedsANodeWithoutPods(t *testing.T) {
	dir := t.TempDir()
	a, err := filestore.OpenAttachments(dir + "/endpoints")
	require.NoError(t, err)
	require.NoError(t, keepIPAM(dir, "kubernetes", a))
	require.NoError(t, keepIPAM(dir, "cluster-pool", a), "nobody is there")
	require.NoError(t, a.Save(ports.Attachment{ContainerID: "c", Interface: "eth0", Pod: cluster.Name{Namespace: "shop", Name: "a"}}))
	require.NoError(t, keepIPAM(dir, "cluster-pool", a))
	err = keepIPAM(dir, "kubernetes", a)
	require.ErrorContains(t, err, `ipam: "kubernetes" is refused: 1 pods of this node (shop/a among them) have addresses by mode "cluster-pool"`)
	require.NoError(t, a.Delete("c", "eth0"))
	require.NoError(t, keepIPAM(dir, "kubernetes", a))
}
