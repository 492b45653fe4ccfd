package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// own is how much of the program's own file is in memory, in KiB.
func own(t *testing.T) (sum int) {
	self, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	f, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer f.Close()
	counts := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case !strings.HasSuffix(fields[0], ":"):
			counts = fields[len(fields)-1] == self
		case counts && fields[0] == "Rss:":
			n, err := strconv.Atoi(fields[1])
			require.NoError(t, err)
			sum += n
		}
	}
	return sum
}

func TestForgetStart(t *testing.T) {
	before := own(t)
	require.NoError(t, forgetStart())
	after := own(t)
	require.Less(t, after, before*9/10, "what the start needed is gone")
	require.Positive(t, after, "what runs has come back")
}
