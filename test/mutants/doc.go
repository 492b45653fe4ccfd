// Mutants checks the tests: it changes one decision of the program at a time, in a copy of the tree, and runs
// the tests that should notice. A mutant that no test notices has survived, and a test is missing.
//
//	go run ./test/mutants              all of them
//	go run ./test/mutants -run '^bpf/' those whose name matches
//	go run ./test/mutants -list        only show them
//
// The list names exact text, so it goes stale when the code changes. A text that is not found, or found twice,
// or whose change does not compile, is a failure like a survivor; an ordinary test of this package finds the
// first two without running any mutant.
//
// Exit status: 0 if every mutant was killed or skipped for a reason that is printed, 1 if not, 2 if the check
// itself could not run.
package main
