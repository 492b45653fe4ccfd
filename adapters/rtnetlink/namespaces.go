package rtnetlink

import "github.com/weirnet/weir/adapters/internal/netns"

// CreateNetns makes a named network namespace with its loopback device up and returns its path, below
// /run/netns as for the ip command. The error wraps fs.ErrExist if the name is taken.
func CreateNetns(name string) (path string, err error) { return netns.Create(name) }

// DeleteNetns removes a named network namespace; absent is no error.
func DeleteNetns(name string) error { return netns.Delete(name) }

// NetnsPath gives the path of a named network namespace.
func NetnsPath(name string) string { return netns.Path(name) }

// WithNetns runs f on a thread of its own inside the namespace at path and returns its error. Sockets
// opened and processes started by f belong to the namespace, goroutines started by f do not.
func WithNetns(path string, f func() error) error { return netns.Do(path, f) }
