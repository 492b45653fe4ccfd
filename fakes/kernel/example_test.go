package kernel_test

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// Two pods of one node: the first may only reach port 80 of the second.
func Example() {
	k := kernel.New(kernel.Options{})
	fabric := kernel.NewFabric()
	fabric.AddNode(kernel.NodeConfig{Name: "node", Kernel: k})
	tables := k.Tables()
	policy := datapath.NewPolicyID(0, 1)
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(tables.Policy.Put(datapath.PolicyKey{Policy: policy, Proto: datapath.ProtoTCP, Port: 80, PortBits: 16}, datapath.PolicyRow{Allow: true, Cookie: 1}))
	must(tables.Policy.Put(datapath.PolicyKey{Policy: policy, Direction: datapath.Egress, AnyProto: true}, datapath.PolicyRow{Allow: true}))
	for i, name := range []string{"client", "server"} {
		ep := datapath.Endpoint{
			ID: datapath.EndpointID(i + 1), Identity: 300, Ifindex: uint32(i + 10),
			MAC: datapath.MAC{2, 0, 0, 0, 0, byte(i)}, NodeMAC: datapath.MAC{2, 0, 0, 0, 1, byte(i)},
		}
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		fabric.AddPod(kernel.PodConfig{Name: name, Node: "node", Ifindex: ep.Ifindex, MAC: ep.MAC, NodeMAC: ep.NodeMAC, Addrs: []netip.Addr{addr}})
		must(k.AttachPod(ep.Ifindex))
		must(tables.EndpointPolicy.Put(ep.ID, datapath.EndpointPolicy{Policy: policy, Epoch: 1}))
		must(tables.Endpoints.Put(addr, ep))
	}
	fabric.Listen("server", datapath.ProtoTCP, 80)
	fabric.Listen("server", datapath.ProtoTCP, 81)

	server := netip.MustParseAddr("10.0.0.2")
	answer, _ := fabric.Dial("client", datapath.ProtoTCP, server, 80)
	fmt.Println("port 80:", answer.Data)
	answer, trace := fabric.Dial("client", datapath.ProtoTCP, server, 81)
	fmt.Println("port 81:", answer.Connected, "reason", trace.Drop().Reason)
	fmt.Print(trace)
	fmt.Println("violations:", k.Violations())
	// Output:
	// port 80: server: hello
	// port 81: false reason 133
	// node from_pod 10: TCP S 10.0.0.1:40002 > 10.0.0.2:81: drop, reason 133
	// violations: []
}
