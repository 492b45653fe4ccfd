package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// maxFile bounds what is read of one file, in bytes.
const maxFile = 64 << 20

// definition is one object as one file defines it. obj is not valid if the object was refused, or if
// nobody knows what the file now says of it; then it is not stated.
type definition struct {
	obj      manifest.Object
	stated   bool
	sum      checksum
	doc      []byte // JSON, until it was taken in
	findings []cluster.Finding
}

// content is what a file was last seen to hold.
type content struct {
	stamp stamp
	defs  []definition
	// findings concern the file as a whole, or documents whose object can't be told.
	findings []cluster.Finding
	// unknown: parts of the file could not be read, and may define any object that the file defined
	// before.
	unknown bool
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !hidden(name)
	}
	return false
}

func hidden(path string) bool {
	for _, part := range strings.Split(filepath.ToSlash(path), "/") {
		if strings.HasPrefix(part, ".") && part != "." {
			return true
		}
	}
	return false
}

// errDirectory is readContent's answer to a directory.
var errDirectory = errors.New("is a directory")

// readContent reads a file. rel is its path below dir. The error is os.ErrNotExist or errDirectory; any
// other trouble is a finding.
func readContent(dir, rel string) (*content, error) {
	path := filepath.Join(dir, rel)
	c := &content{}
	data, err := c.read(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errDirectory):
		return nil, err
	case err != nil:
		c.fail(path, "can't be read: %v", err)
		return c, nil
	case len(data) == 0:
		// Seen also while an editor rewrites a file in place.
		c.fail(path, "is empty; remove it to remove its objects")
		return c, nil
	}
	isJSON := filepath.Ext(rel) == ".json"
	if isJSON {
		if obj, findings, ok := manifest.DecodeSingle(path, data); ok {
			c.take(rel, path, data, obj, findings)
			return c, nil
		}
	}
	var docs [][]byte
	if isJSON {
		docs, err = manifest.Documents(data)
		if err != nil {
			c.fail(path, "is not valid JSON: %v", err)
		}
	} else {
		for _, part := range manifest.SplitYAML(data) {
			doc, err := yaml.YAMLToJSONStrict(part)
			if err != nil {
				c.fail(path, "is not valid YAML: %v", err)
				continue
			}
			docs = append(docs, doc)
		}
	}
	for _, doc := range docs {
		if string(bytes.TrimSpace(doc)) == "null" {
			continue // nothing but comments
		}
		items, err := manifest.Items(doc)
		if err != nil {
			c.fail(path, "%v", err)
			continue
		}
		for _, item := range items {
			c.add(dir, rel, item)
		}
	}
	return c, nil
}

func (c *content) fail(path, format string, args ...any) {
	c.unknown = true
	c.findings = append(c.findings, cluster.Finding{
		File: path, Message: fmt.Sprintf(format, args...) + "; the objects that it last defined stay in force",
	})
}

func (c *content) add(dir, rel string, doc []byte) {
	path := filepath.Join(dir, rel)
	obj, findings := manifest.Decode(path, doc)
	c.take(rel, path, doc, obj, findings)
}

// take notes what a document was decoded to.
func (c *content) take(rel, path string, doc []byte, obj manifest.Object, findings []cluster.Finding) {
	if !obj.Known() {
		c.findings = append(c.findings, findings...)
		for _, f := range findings {
			c.unknown = c.unknown || !f.Warning
		}
		return
	}
	if obj.Kind == manifest.KindCiliumIdentity && filepath.ToSlash(filepath.Dir(rel)) != identitiesDir {
		findings = append(findings, cluster.Finding{File: path, Object: obj.Key.String(),
			Message: "identities are numbered by the agents, in " + identitiesDir + "; remove it"})
		obj = manifest.Object{Key: obj.Key}
	}
	c.defs = append(c.defs, definition{obj: obj, stated: true, sum: checksumOf(doc), doc: doc, findings: findings})
}

// read reads a regular file and notes its stamp. With thousands of files the system calls count: these are
// the fewest.
func (c *content) read(path string) ([]byte, error) {
	// Without O_NONBLOCK opening a pipe would wait for somebody to write.
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, errDirectory
	default:
		return nil, errors.New("not a regular file")
	}
	c.stamp = stampOf(&st)
	// A file that grows meanwhile is read on: to its end.
	data := make([]byte, 0, min(st.Size, maxFile)+1)
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return nil, err
		}
		data = data[:len(data)+n]
		switch {
		case len(data) > maxFile:
			return nil, fmt.Errorf("more than %d bytes", maxFile)
		case n == 0 || int64(len(data)) == st.Size:
			return data, nil
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}
