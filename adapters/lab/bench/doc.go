// Package bench measures weir against the kernel's own forwarding, side by side in one run.
//
// The bed is a lab with a client and a server on the same node and a server on another one, and beside
// it plain networks of the same shape that the kernel alone forwards in. A case is one sort of traffic in
// one setting (place, policies, services, export of flows, family); each is measured against its baseline in
// turns, round by round, and what counts is the ratio of the two within a round: whatever slows the
// machine down for a while slows both.
package bench
