package kernel

import "container/list"

// lru is a hash table that makes room by evicting the row used longest ago. Not safe for concurrent
// use: the kernel's lock covers it.
type lru[K comparable, V any] struct {
	capacity int
	rows     map[K]*list.Element
	order    *list.List // most recently used first
}

type lruRow[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](capacity int) *lru[K, V] {
	return &lru[K, V]{capacity: capacity, rows: make(map[K]*list.Element), order: list.New()}
}

// get finds a row and marks it as used.
func (l *lru[K, V]) get(key K) (V, bool) {
	el, ok := l.rows[key]
	if !ok {
		var none V
		return none, false
	}
	l.order.MoveToFront(el)
	return el.Value.(*lruRow[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V) {
	if el, ok := l.rows[key]; ok {
		el.Value.(*lruRow[K, V]).value = value
		l.order.MoveToFront(el)
		return
	}
	if len(l.rows) >= l.capacity {
		oldest := l.order.Back()
		delete(l.rows, oldest.Value.(*lruRow[K, V]).key)
		l.order.Remove(oldest)
	}
	l.rows[key] = l.order.PushFront(&lruRow[K, V]{key, value})
}

func (l *lru[K, V]) delete(key K) {
	if el, ok := l.rows[key]; ok {
		l.order.Remove(el)
		delete(l.rows, key)
	}
}

// each visits all rows, most recently used first, without marking them; visit may delete the row.
func (l *lru[K, V]) each(visit func(K, V)) {
	for el := l.order.Front(); el != nil; {
		next := el.Next()
		row := el.Value.(*lruRow[K, V])
		visit(row.key, row.value)
		el = next
	}
}

func (l *lru[K, V]) len() int { return len(l.rows) }
