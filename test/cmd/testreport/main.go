// Testreport runs "go test" with its arguments and reports what happened for a reader: one line for
// each package, failures in full, every skipped test with its reason, and as the last line
//
//	N passed, N failed, N skipped
//
// Tests that consist of subtests are counted by these. A package that does not build, or ends
// without saying which of its tests failed, counts as one failure. The exit status is 0 only if go
// test's was and nothing failed.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "testreport: go test: %v\n", err)
		os.Exit(2)
	}
	r := newReport(os.Stdout, modulePath())
	readErr := r.read(out)
	waitErr := cmd.Wait()
	if readErr != nil {
		fmt.Fprintf(os.Stderr, "testreport: go test: %v\n", readErr)
	}
	if stderr.Len() > 0 {
		os.Stderr.Write(stderr.Bytes())
	}
	ok := r.finish(waitErr != nil || readErr != nil)
	if !ok {
		os.Exit(1)
	}
}

// modulePath is cut off package names to keep lines short; empty outside a module.
func modulePath() string {
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}
