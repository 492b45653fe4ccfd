package manifest

import "bytes"

// SplitYAML takes apart the documents of a YAML file, without reading them; empty ones are left out. Each part begins with as many empty lines as stand
// before it in the file, so that a parser's line numbers are the file's.
func SplitYAML(data []byte) [][]byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out [][]byte
	var part []byte
	n := 0
	flush := func() {
		if len(bytes.TrimSpace(part)) > 0 {
			out = append(out, part)
		}
	}
	for _, line := range bytes.SplitAfter(data, []byte("\n")) {
		if rest, ok := marker(line, "---"); ok {
			flush()
			part = append(bytes.Repeat([]byte("\n"), n), rest...)
		} else if _, ok := marker(line, "..."); ok {
			flush()
			part = bytes.Repeat([]byte("\n"), n+1)
		} else {
			part = append(part, line...)
		}
		n++
	}
	flush()
	return out
}

// marker says whether a line is a document marker, and what follows it on the line.
func marker(line []byte, mark string) (rest []byte, ok bool) {
	if !bytes.HasPrefix(line, []byte(mark)) {
		return nil, false
	}
	rest = line[len(mark):]
	return rest, len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0]))
}
