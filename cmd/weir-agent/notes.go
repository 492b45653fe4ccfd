package main

import (
	"maps"
	"slices"
	"sync"
)

// notes are what the parts around the agent have to say in `weir status`, by topic. Any goroutine may use
// them.
type notes struct {
	mu                 sync.Mutex
	problems, warnings map[string][]string
}

func newNotes() *notes {
	return &notes{problems: map[string][]string{}, warnings: map[string][]string{}}
}

// problem replaces what is wrong under a topic; nil: nothing is. It says whether that is news.
func (n *notes) problem(topic string, err error) (changed bool) {
	var texts []string
	if err != nil {
		texts = []string{topic + ": " + err.Error()}
	}
	return n.set(n.problems, topic, texts)
}

// warn replaces what is worth knowing under a topic.
func (n *notes) warn(topic string, texts ...string) (changed bool) {
	return n.set(n.warnings, topic, texts)
}

func (n *notes) set(m map[string][]string, topic string, texts []string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := !slices.Equal(m[topic], texts)
	if len(texts) == 0 {
		delete(m, topic)
	} else {
		m[topic] = slices.Clone(texts)
	}
	return changed
}

// read is for runtime.Config.Notes.
func (n *notes) read() (problems, warnings []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return inOrder(n.problems), inOrder(n.warnings)
}

func inOrder(m map[string][]string) (out []string) {
	for _, topic := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[topic]...)
	}
	return out
}
