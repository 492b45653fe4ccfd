// Package weir is the root of a Kubernetes network in eBPF; it holds no code of its own. The pure
// decisions are the packages under core, the interfaces through which they meet the world are under
// ports, what implements them is under adapters and fakes, and cmd has the binaries. Which of these
// may import which is checked by this package's tests.
package weir
