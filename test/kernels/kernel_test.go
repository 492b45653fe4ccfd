package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewestPackage(t *testing.T) {
	names := []string{
		"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-amd64",
		"linux-image-6.1.0-57-rt-amd64", "linux-image-6.1.0-58-cloud-amd64-dbg", "linux-image-6.1.0-59-cloud-amd64-unsigned",
		"linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.12.120+deb12-amd64",
	}
	assert.Equal(t, "linux-image-6.1.0-56-cloud-amd64", newestPackage("6.1", names))
	assert.Equal(t, "linux-image-6.12.117+deb12-cloud-amd64", newestPackage("6.12", names))
	assert.Empty(t, newestPackage("5.10", names))
}

// moduleText is an ELF file with nothing in it but a module's description.
func moduleText(t *testing.T, info string) []byte {
	t.Helper()
	const header, entry = 64, 64
	names := "\x00.shstrtab\x00.modinfo\x00"
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	put := func(size int, v uint64) {
		for range size {
			b.WriteByte(byte(v))
			v >>= 8
		}
	}
	sections := header + len(names) + len(info)
	for _, f := range []struct {
		size  int
		value int
	}{{2, 1}, {2, 62}, {4, 1}, {8, 0}, {8, 0}, {8, sections}, {4, 0}, {2, header}, {2, 0}, {2, 0}, {2, entry}, {2, 3}, {2, 1}} {
		put(f.size, uint64(f.value))
	}
	b.WriteString(names + info)
	for _, s := range []struct{ name, kind, offset, size int }{
		{}, {1, 3, header, len(names)}, {11, 1, header + len(names), len(info)},
	} {
		put(4, uint64(s.name))
		put(4, uint64(s.kind))
		put(8, 0)
		put(8, 0)
		put(8, uint64(s.offset))
		put(8, uint64(s.size))
		put(4, 0)
		put(4, 0)
		put(8, 1)
		put(8, 0)
	}
	return b.Bytes()
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	dir := t.TempDir()
	k := &kernel{release: "6.1.0", modules: map[string]string{}, builtin: map[string]bool{"ipv6": true}}
	for name, needs := range map[string]string{
		"vxlan": "ip6_udp_tunnel,udp_tunnel,ipv6", "ip6_udp_tunnel": "udp_tunnel", "udp_tunnel": "", "broken": "absent",
	} {
		path := filepath.Join(dir, name+".ko")
		require.NoError(t, os.WriteFile(path, moduleText(t, "license=GPL\x00depends="+needs+"\x00name="+name+"\x00"), 0o600))
		k.modules[name] = path
	}
	loaded, err := k.load([]string{"ipv6", "vxlan", "udp-tunnel"})
	require.NoError(t, err)
	var names []string
	for _, m := range loaded {
		names = append(names, m.name)
	}
	assert.Equal(t, []string{"udp_tunnel", "ip6_udp_tunnel", "vxlan"}, names)
	_, err = k.load([]string{"broken"})
	assert.ErrorContains(t, err, "kernel 6.1.0 has no module absent")
}
