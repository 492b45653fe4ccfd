// Package lab builds a cluster out of network namespaces on one machine: each node is a namespace with
// its own agent process, cgroup, bpffs and run directory, joined to the others by a bridge; each pod is
// a namespace that the CNI plugin attached, with a small server in it that answers with the pod's name.
//
// The lab plays the parts of a cluster that weir does not: the kubelet (it places pods, calls the CNI
// plugin, runs the pod's process, reports its addresses) and the API server (objects are files in one
// directory that every agent watches).
//
// Everything a lab makes carries its name: namespaces "weir-NAME-…", the cgroup "weir-NAME", the run
// directory ROOT/NAME. Down finds it by that name, so it needs no record of what was made and works
// after a crash at any point; the record (state.json) is written before each thing is created and says
// what belongs to which node or pod.
//
// Programs that use this package must call Helper first thing in main: the lab starts the running
// binary again for what has to happen inside a namespace.
package lab
