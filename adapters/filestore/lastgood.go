package filestore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// lastGood keeps the last good version of each manifest in a log file of a directory. What agents publish is
// not kept: it is written whole, and anew after a restart.
//
// The log is a sequence of records, of which the last about an object counts: a line
//
//	SIZE CHECKSUM KIND NAMESPACE NAME "FILE"
//
// ("-" for no namespace), the SIZE bytes of the object, a newline. SIZE -1 forgets the object and has
// nothing behind its line. A record cut off by a crash ends the log.
type lastGood struct {
	dir      string // empty: nothing is kept; versions in force are in memory anyway
	log      *os.File
	out      *bufio.Writer
	end      int64 // of the log, with what out still holds
	dead     int64 // bytes of records that count no more
	records  map[manifest.Key]goodRecord
	restored map[string][]manifest.Key // by file, of an earlier process; until the file is read
	failed   error                     // of the last write
}

type goodRecord struct {
	file string // below the watched directory
	sum  checksum
	at   int64 // of the object in the log
	size int64
}

// checksum tells versions of an object apart, also those of different processes.
type checksum [16]byte

func checksumOf(doc []byte) (c checksum) {
	sum := sha256.Sum256(doc)
	copy(c[:], sum[:])
	return c
}

const goodLog = "versions.log"

// compactAt is how many useless bytes, beyond as many as are useful, the log may have.
const compactAt = 4 << 20

func newLastGood(dir string) *lastGood {
	return &lastGood{dir: dir, records: map[manifest.Key]goodRecord{}, restored: map[string][]manifest.Key{}}
}

// openLastGood reads what an earlier process kept. The caller closes.
func openLastGood(dir string) (*lastGood, error) {
	g := newLastGood(dir)
	if dir == "" {
		return g, nil
	}
	var err error
	if g.log, err = os.OpenFile(filepath.Join(dir, goodLog), os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		err = g.load()
	}
	if err != nil {
		g.close()
		return nil, fmt.Errorf("read last good versions: %w", err)
	}
	for k, r := range g.records {
		g.restored[r.file] = append(g.restored[r.file], k)
	}
	return g, nil
}

// load reads the log up to its end or the first record that is not whole, and cuts it there.
func (g *lastGood) load() error {
	in := bufio.NewReaderSize(g.log, 1<<16)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		k, rec, ok := parseRecord(line)
		if !ok {
			break
		}
		rec.at = g.end + int64(len(line))
		if rec.size >= 0 {
			if n, err := in.Discard(int(rec.size)); err != nil && err != io.EOF {
				return err
			} else if int64(n) < rec.size {
				break
			}
			if c, err := in.ReadByte(); err != nil || c != '\n' {
				break
			}
		}
		g.count(k, rec, int64(len(line)))
	}
	if err := g.log.Truncate(g.end); err != nil {
		return err
	}
	_, err := g.log.Seek(g.end, io.SeekStart)
	g.out = bufio.NewWriterSize(g.log, 1<<16)
	return err
}

// count takes a record at the end of the log in. head is the length of its line.
func (g *lastGood) count(k manifest.Key, rec goodRecord, head int64) {
	if old, ok := g.records[k]; ok {
		g.dead += head + old.size + 1
	}
	g.end += head
	if rec.size < 0 {
		g.dead += head
		delete(g.records, k)
		return
	}
	g.end += rec.size + 1
	g.records[k] = rec
}

func recordLine(k manifest.Key, rec goodRecord) string {
	namespace := k.Namespace
	if namespace == "" {
		namespace = "-"
	}
	return fmt.Sprintf("%d %x %s %s %s %q\n", rec.size, rec.sum[:], k.Kind, namespace, k.Name, rec.file)
}

func parseRecord(line string) (k manifest.Key, rec goodRecord, ok bool) {
	f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
	if len(f) != 6 {
		return k, rec, false
	}
	size, err := strconv.ParseInt(f[0], 10, 32)
	n, sumErr := hex.Decode(rec.sum[:], []byte(f[1][:min(len(f[1]), 2*len(rec.sum))]))
	file, fileErr := strconv.Unquote(f[5])
	if err != nil || size < -1 || sumErr != nil || n != len(rec.sum) || fileErr != nil || f[2] == "" || f[4] == "" {
		return k, rec, false
	}
	if f[3] == "-" {
		f[3] = ""
	}
	rec.size, rec.file = size, strings.Clone(file)
	return manifest.Key{Kind: strings.Clone(f[2]), Namespace: strings.Clone(f[3]), Name: strings.Clone(f[4])}, rec, true
}

// keeps says whether versions of a file's objects are kept.
func (g *lastGood) keeps(file string) bool {
	return g.dir != "" && !strings.HasPrefix(filepath.ToSlash(file), statusDir+"/")
}

// has says whether this very version of an object is kept.
func (g *lastGood) has(k manifest.Key, file string, sum checksum) bool {
	old, ok := g.records[k]
	return ok && old.file == file && old.sum == sum
}

// remember keeps a version. It is in the log after flush.
func (g *lastGood) remember(k manifest.Key, file string, doc []byte, sum checksum) {
	if g.out == nil {
		return
	}
	rec := goodRecord{file: file, sum: sum, size: int64(len(doc))}
	line := recordLine(k, rec)
	rec.at = g.end + int64(len(line))
	g.write(line)
	g.write(string(doc))
	g.write("\n")
	g.count(k, rec, int64(len(line)))
}

// forget drops the version kept, if there is one.
func (g *lastGood) forget(k manifest.Key) {
	rec, ok := g.records[k]
	if !ok || g.out == nil {
		return
	}
	line := recordLine(k, goodRecord{file: rec.file, size: -1})
	g.write(line)
	g.count(k, goodRecord{size: -1}, int64(len(line)))
}

func (g *lastGood) write(s string) {
	if _, err := g.out.WriteString(s); err != nil && g.failed == nil {
		g.failed = err
	}
}

// flush writes what was remembered and forgotten. After a failure everything is written anew at the next.
func (g *lastGood) flush() {
	if g.out == nil {
		return
	}
	err := g.failed
	if err == nil {
		err = g.out.Flush()
	}
	if err != nil || g.dead > compactAt && g.dead > g.end/2 {
		err = g.compact()
	}
	g.failed = err
}

// compact writes the log anew with the records that count.
func (g *lastGood) compact() error {
	var all bytes.Buffer
	kept := map[manifest.Key]goodRecord{}
	for k, rec := range g.records {
		doc, err := g.read(rec)
		if err != nil {
			continue // what never reached the log, or was damaged there
		}
		all.WriteString(recordLine(k, rec))
		rec.at = int64(all.Len())
		all.Write(doc)
		all.WriteByte('\n')
		kept[k] = rec
	}
	path := filepath.Join(g.dir, goodLog)
	if err := writeFile(path, all.Bytes(), false); err != nil {
		return err
	}
	log, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := log.Seek(0, io.SeekEnd); err != nil {
		log.Close()
		return err
	}
	g.log.Close()
	g.log, g.records, g.end, g.dead = log, kept, int64(all.Len()), 0
	g.out.Reset(log)
	return nil
}

func (g *lastGood) read(rec goodRecord) ([]byte, error) {
	doc := make([]byte, rec.size)
	if _, err := g.log.ReadAt(doc, rec.at); err != nil {
		return nil, err
	}
	if checksumOf(doc) != rec.sum {
		return nil, errors.New("damaged")
	}
	return doc, nil
}

// recall returns the version kept.
func (g *lastGood) recall(k manifest.Key) (manifest.Object, bool) {
	rec, ok := g.records[k]
	if !ok || g.out == nil || g.out.Buffered() > 0 && g.out.Flush() != nil {
		return manifest.Object{}, false
	}
	doc, err := g.read(rec)
	if err != nil {
		return manifest.Object{}, false
	}
	o, _ := manifest.Decode("", doc)
	return o, o.Valid() && o.Key == k
}

// definedBefore lists the objects whose version an earlier process took from a file. It is asked once for
// each file.
func (g *lastGood) definedBefore(file string) []manifest.Key {
	keys := g.restored[file]
	delete(g.restored, file)
	return keys
}

func (g *lastGood) trouble() []cluster.Finding {
	if g.failed == nil {
		return nil
	}
	return []cluster.Finding{{File: g.dir, Warning: true,
		Message: fmt.Sprintf("the last good versions can't be kept, so a restart would lose them: %v", g.failed)}}
}

func (g *lastGood) close() {
	if g.log != nil {
		g.log.Close()
	}
	g.log, g.out = nil, nil
}
