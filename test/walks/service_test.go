package walks

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

const frontend = `
apiVersion: v1
kind: Service
metadata: {name: b, namespace: walk}
spec:
  clusterIP: 10.96.0.10
  selector: {app: b}
  sessionAffinity: AFFINITY
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]
`

// TestService replays docs/walks/service.md.
func TestService(t *testing.T) {
	onOne := strings.ReplaceAll(podB, "NODE", "node1")
	onTwo := strings.ReplaceAll(strings.ReplaceAll(podB, "NODE", "node2"), "name: b", "name: b2")
	c := newCluster(t, podA, onOne, onTwo, strings.ReplaceAll(frontend, "AFFINITY", "None"))
	n := c.Node("node1")
	tables := n.Kernel.Tables()
	vip := netip.MustParseAddr("10.96.0.10")

	// 1. The frontend has an id and two slots; each names a backend.
	s := get(t, tables.Services, datapath.ServiceKey{Addr: vip, Port: 80, Proto: tcp})
	require.EqualValues(t, 2, s.Count)
	var backends []string
	for slot := uint32(1); slot <= s.Count; slot++ {
		b := get(t, tables.Backends, get(t, tables.Slots, datapath.SlotKey{Service: s.ID, Slot: slot}))
		backends = append(backends, netip.AddrPortFrom(b.Addr, b.Port).String())
	}
	want := []string{c.Addr("walk/b").String() + ":8080", c.Addr("walk/b2").String() + ":8080"}
	require.ElementsMatch(t, want, backends)

	// 2 and 3. Both are chosen, and the backend's address replaces the destination before any packet.
	seen := map[string]int{}
	for range 50 {
		conn, answer, trace := c.Fabric().Open("walk/a", tcp, vip, 80)
		require.True(t, answer.Connected, "%s", trace)
		seen[answer.By]++
		require.Contains(t, want, conn.Remote().String())
		require.NotContains(t, trace.String(), vip.String(), "4. no packet has it")
		// 5. getpeername answers with the ClusterIP.
		require.Equal(t, netip.AddrPortFrom(vip, 80), answer.Peer)
	}
	require.Len(t, seen, 2)
	// 5. Unconnected UDP: recvmsg shows the ClusterIP as the sender.
	answer, trace := c.Fabric().SendTo("walk/a", vip, 80, "who")
	require.True(t, answer.Connected, "%s", trace)
	require.Equal(t, netip.AddrPortFrom(vip, 80), answer.Peer)

	// 4. Policy is about the backend.
	apply(t, c, strings.Replace(letAIn, "app: a", "app: nobody", 1))
	v := c.ProbeAddr("walk/a", vip, 80, "TCP")
	require.False(t, v.Allowed)
	require.Equal(t, "default deny (NetworkPolicy walk/b)", v.Ingress.String())

	// 2. With session affinity a client stays.
	apply(t, c, letAIn+"---"+strings.ReplaceAll(frontend, "AFFINITY", "ClientIP"))
	require.Positive(t, get(t, tables.Services, datapath.ServiceKey{Addr: vip, Port: 80, Proto: tcp}).AffinityTimeout)
	first, _ := c.Fabric().Dial("walk/a", tcp, vip, 80)
	for range 20 {
		again, _ := c.Fabric().Dial("walk/a", tcp, vip, 80)
		require.Equal(t, first.By, again.By)
	}
	// As long as the backend exists.
	_, err := c.Delete("{apiVersion: v1, kind: Pod, metadata: {namespace: walk, name: " + strings.TrimPrefix(first.By, "walk/") + "}}")
	require.NoError(t, err)
	other, _ := c.Fabric().Dial("walk/a", tcp, vip, 80)
	require.True(t, other.Connected)
	require.NotEqual(t, first.By, other.By)

	// A service without backends refuses the call.
	_, err = c.Delete("{apiVersion: v1, kind: Pod, metadata: {namespace: walk, name: " + strings.TrimPrefix(other.By, "walk/") + "}}")
	require.NoError(t, err)
	none, trace := c.Fabric().Dial("walk/a", tcp, vip, 80)
	require.ErrorIs(t, none.Err, syscall.ECONNREFUSED)
	require.Empty(t, trace.Steps, "no packet")
}
