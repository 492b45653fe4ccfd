// Package sim runs whole clusters in one process, without goroutines: agents (runtime.Stepper) over fake
// kernels, one clock, one source of randomness, and faults. A run is made by a list of events, each with
// a number of its own from which it takes its choices; so the same list does the same, and a list from
// which events are taken out still makes sense. docs/simulation.md says what is checked.
package sim
