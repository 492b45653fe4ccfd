package datapath

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// MarshalText writes the address as six hexadecimal bytes joined by colons.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText wrote. The error names the text.
func (m *MAC) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ":")
	if len(parts) != len(m) {
		return fmt.Errorf("%q is not an Ethernet address such as 02:00:00:00:00:01", text)
	}
	var out MAC
	for i, p := range parts {
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return fmt.Errorf("%q is not an Ethernet address such as 02:00:00:00:00:01: byte %d is %q", text, i+1, p)
		}
		out[i] = b[0]
	}
	*m = out
	return nil
}

// MarshalText writes "ingress" or "egress".
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote. The error names the text and what is allowed.
func (d *Direction) UnmarshalText(text []byte) error {
	for _, known := range []Direction{Ingress, Egress} {
		if string(text) == known.String() {
			*d = known
			return nil
		}
	}
	return fmt.Errorf("direction %q is not allowed; allowed: %s, %s", text, Ingress, Egress)
}
