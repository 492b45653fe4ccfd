// Package policycases holds weir's reading of policies against cases written by hand from the
// documentation of NetworkPolicy and CiliumNetworkPolicy: each is a set of manifests with the truth
// table that a reader of the documentation expects.
//
// Every case is judged twice: on paper, through the code behind "weir policy matrix" (no rights
// needed), and by real packets of both address families in a lab of two nodes (needs root and BPF;
// REQUIRE=root,bpf turns the skip into a failure). The cluster is in testdata/cluster, the cases are
// in testdata/cases; parse_test.go describes their form.
package policycases
