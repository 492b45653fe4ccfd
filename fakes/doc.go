// Package fakes is a whole cluster in one process, without root, network or kernel: nodes with the
// kernel of package fakes/kernel, joined in one fabric, links, objects, and the real agents on top. It
// answers what policies do by sending packets: who reaches whom, by which rule, before, during and
// after a change, and while agents are killed and started again.
//
// The agents are the caller's, as a function that makes one, because fakes know no adapter:
//
//	func agent(node string, d fakes.Deps) fakes.Agent {
//		return runtime.New(runtime.Config{Node: node, Datapath: "fake"}, runtime.Deps(d))
//	}
//
// Agents run in goroutines of their own and by the machine's clock, unless Options has another.
// Everything else happens inside the call that causes it. Methods that change the cluster return once
// all running agents have taken the change in.
//
// Pods are called "namespace/name", nodes by their name, and Outside is a machine that is no part of the
// cluster. Naming something that does not exist is a mistake of the caller's and panics.
package fakes
