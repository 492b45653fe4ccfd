package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entries reads an archive back.
func entries(t *testing.T, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for {
		require.Equal(t, "070701", string(b[:6]))
		field := func(i int) int {
			n, err := strconv.ParseInt(string(b[6+8*i:14+8*i]), 16, 64)
			require.NoError(t, err)
			return int(n)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		name := string(b[110 : 110+nameSize-1])
		content := (110 + nameSize + 3) &^ 3
		if name == "TRAILER!!!" {
			return out
		}
		require.NotContains(t, out, name)
		out[name] = fmt.Sprintf("%o %s", mode, b[content:content+size])
		b = b[(content+size+3)&^3:]
	}
}

func TestArchive(t *testing.T) {
	source := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(source, "sub"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(source, "sub", "f"), []byte("12345"), 0o600))
	var b bytes.Buffer
	a := newArchive(&b)
	a.dir("proc")
	a.link("usr", ".")
	a.file("etc/hosts", []byte("text"))
	a.tree("weir/data", source)
	require.NoError(t, a.close())
	assert.Equal(t, map[string]string{
		"proc": "40755 ", "usr": "120777 .", "etc": "40755 ", "etc/hosts": "100644 text",
		"weir": "40755 ", "weir/data": "40755 ", "weir/data/sub": "40755 ", "weir/data/sub/f": "100755 12345",
	}, entries(t, b.Bytes()))

	a = newArchive(&b)
	a.program("bin/x", filepath.Join(source, "absent"))
	assert.ErrorIs(t, a.close(), os.ErrNotExist)
}
