package filestore

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// note is what the kernel tells of a place below a watched directory.
type note struct {
	path string
	kind noteKind
}

type noteKind uint8

const (
	// A file was put in its place as a whole, or whoever wrote it has closed it.
	noteComplete noteKind = iota
	// A file is being written, or it went, perhaps to be put back.
	noteUnsettled
	// Only the attributes of a file changed.
	noteAttributes
	// A directory came or went.
	noteDirectory
	// Notes were lost.
	noteLost
)

const notifyMask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// notifier is an inotify instance. It tells when a file's writer has closed it, for which others have
// to wait and guess. watch and close have one caller; the goroutine ends with close.
type notifier struct {
	fd    int
	file  *os.File
	notes chan []note // closed when there are no more

	mu   sync.Mutex
	dirs map[int32]string // what the numbers in the kernel's notes stand for
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	n := &notifier{fd: fd, file: os.NewFile(uintptr(fd), "inotify"), notes: make(chan []note, 64), dirs: map[int32]string{}}
	go n.run()
	return n, nil
}

// watch asks for notes about a directory. A second time it notes that the directory has moved here.
func (n *notifier) watch(dir string) error {
	n.mu.Lock() // the first note must not be read before its number is known
	defer n.mu.Unlock()
	number, err := unix.InotifyAddWatch(n.fd, dir, notifyMask)
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	n.dirs[int32(number)] = dir
	return nil
}

func (n *notifier) close() {
	n.file.Close()
	for range n.notes {
	}
}

func (n *notifier) run() {
	defer close(n.notes)
	buf := make([]byte, 1<<16)
	for {
		got, err := n.file.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		notes := readNotes(buf[:got], n.dirs)
		n.mu.Unlock()
		if len(notes) > 0 {
			n.notes <- notes
		}
	}
}

// readNotes takes the kernel's records apart. A directory whose number is not known yet is one of which
// everything may have changed.
func readNotes(buf []byte, dirs map[int32]string) []note {
	var out []note
	for len(buf) >= unix.SizeofInotifyEvent {
		number := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if end > len(buf) {
			break
		}
		name := strings.TrimRight(string(buf[unix.SizeofInotifyEvent:end]), "\x00")
		buf = buf[end:]
		dir, known := dirs[number]
		if mask&unix.IN_IGNORED != 0 {
			delete(dirs, number)
			continue
		}
		kind := noteKindOf(mask)
		if !known {
			kind = noteLost
		}
		path := dir
		if name != "" {
			path = filepath.Join(dir, name)
		}
		if n := len(out); n > 0 && out[n-1] == (note{path, kind}) {
			continue
		}
		out = append(out, note{path, kind})
	}
	return out
}

func noteKindOf(mask uint32) noteKind {
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		return noteLost
	case mask&(unix.IN_ISDIR|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
		return noteDirectory
	case mask&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0:
		return noteComplete
	case mask&unix.IN_ATTRIB != 0:
		return noteAttributes
	}
	return noteUnsettled
}
