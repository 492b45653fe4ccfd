package main

// Who finds what is wrong with the following of devices.
var (
	inDevices  = tests("./core/devices", "./core/engine", "./adapters/runtime")
	inNetworks = tests("./adapters/rtnetlink -run Watch|Links|Contract/(links|watch)", "./adapters/ebpf -run DevicesToTheNetwork")
)

// deviceMutants change which devices lead to the network, and how the agent follows them.
var deviceMutants = []mutant{
	{
		name: "devices/pods-count", file: "core/devices/devices.go", by: inDevices,
		old: "if l.Loopback || IsPods(l.Name) || !w.wants(l) {",
		new: "if l.Loopback || !w.wants(l) {",
		why: "what pods send is taken for a client's from the network",
	},
	{
		name: "devices/addresses-of-what-is-down", file: "core/devices/devices.go", by: inDevices,
		old: "if !l.Up {",
		new: "if l.Name == \"\" {",
		why: "an address that the kernel does not answer for counts as the node's",
	},
	{
		name: "devices/address-of-a-pod-taken", file: "core/engine/ownaddresses.go", by: inDevices,
		old: "return e.onDevices[a] && len(e.addresses.claims[a]) == 0",
		new: "return e.onDevices[a]",
		why: "packets to a pod of another node go to this one",
	},
	{
		name: "devices/address-kept", file: "core/engine/ownaddresses.go", by: inDevices,
		old: "if !e.ownWritten[a] || e.isOwn(a) {",
		new: "if !e.ownWritten[a] || e.isOwn(a) || len(e.onDevices) > 0 {",
		why: "who gets an address that was the node's is judged as the node",
	},
	{
		name: "devices/no-second-try", file: "adapters/runtime/devices.go", by: inDevices,
		old: "d.stale = true\n\t\td.stall.fail(now, err)",
		new: "d.stall.fail(now, err)",
		why: "a device that could not be served at once is never served",
	},
	{
		name: "devices/no-pause", file: "adapters/runtime/devices.go", by: inDevices,
		old: "if next := later(d.looked.Add(devicesPause), d.stall.next); now.Before(next) {",
		new: "if next := d.stall.next; now.Before(next) {",
		why: "a device that flaps keeps the agent busy",
	},
	{
		name: "devices/loss-unnoticed", file: "adapters/rtnetlink/watch.go", by: inNetworks,
		old: "fresh = true // whatever was lost, the list has it",
		new: "fresh = false",
		why: "what the kernel could not tell stays unknown",
	},
	{
		name: "devices/pods-are-news", file: "adapters/rtnetlink/watch.go", by: inNetworks,
		old: "delete(w, l.index)\n\t\treturn was",
		new: "delete(w, l.index)\n\t\treturn was || l.index > 0",
		why: "each pod that comes has all devices listed",
	},
	{
		name: "devices/former-programs-stay", file: "adapters/ebpf/attach.go", by: inNetworks,
		old: "if slices.Contains(ifindexes, old) {",
		new: "if slices.Contains(ifindexes, old) || prog == progToNetwork {",
		why: "a device that is not to be served is",
	},
	{
		name: "devices/one-gone-stops-all", file: "adapters/ebpf/attach.go", by: inNetworks,
		old: "if err != nil && !(mayBeGone && deviceIsGone(err)) {",
		new: "if err != nil {",
		why: "a device that goes at the wrong moment is an error",
	},
}
