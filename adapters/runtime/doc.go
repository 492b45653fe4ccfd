// Package runtime is the only event loop: it feeds the engine with what the ports report and
// carries the engine's operations to the ports. It knows core and ports only, so production, tests
// and library users run the same loop over real adapters or fakes.
//
// All state belongs to the loop's goroutine. Other goroutines (the cluster's watcher, the kernel's
// event reader, the API) hand it messages; queues are bounded. Nothing that the kernel holds from a
// predecessor is pruned before every source has delivered its initial list.
package runtime
