package manifest

import "strings"

func isLower(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func isAlnum(c byte) bool { return isLower(c) || 'A' <= c && c <= 'Z' }

// dnsLabel says whether s is a DNS label (RFC 1123): what a namespace is named by.
func dnsLabel(s string, max int) bool {
	if s == "" || len(s) > max || !isLower(s[0]) || !isLower(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isLower(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func validNamespace(s string) bool { return dnsLabel(s, 63) }

// validName says whether s is a DNS subdomain: dot-separated DNS labels, at most 253 bytes.
func validName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for _, part := range strings.Split(s, ".") {
		if !dnsLabel(part, 253) {
			return false
		}
	}
	return true
}

// word says whether s consists of letters, digits, '-', '_' and '.', beginning and ending with a
// letter or digit, and is at most 63 bytes long.
func word(s string) bool {
	if s == "" || len(s) > 63 || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// checkLabelKey returns what is wrong with a label key, or nothing.
func checkLabelKey(key string) string {
	name := key
	if prefix, rest, ok := strings.Cut(key, "/"); ok {
		name = rest
		if !validName(prefix) {
			return "the part before '/' must be a DNS name"
		}
	}
	if !word(name) {
		return "want letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, at most 63, after an optional DNS name and '/'"
	}
	return ""
}

// checkLabelValue returns what is wrong with a label value, or nothing.
func checkLabelValue(v string) string {
	if v != "" && !word(v) {
		return "want letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, at most 63"
	}
	return ""
}

// validPortName says whether s names a port (IANA service name): at most max letters, digits and
// single inner dashes, at least one of them a letter.
func validPortName(s string, max int) bool {
	if s == "" || len(s) > max || s[0] == '-' || s[len(s)-1] == '-' || strings.Contains(s, "--") {
		return false
	}
	letter := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlnum(c) && c != '-' {
			return false
		}
		if isAlnum(c) && !('0' <= c && c <= '9') {
			letter = true
		}
	}
	return letter
}
