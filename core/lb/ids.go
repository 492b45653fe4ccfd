package lb

// ids gives out 32-bit numbers that are hashes of their keys, so that every node and every restart
// comes to the same ones, and holds a value under each. A number that another key holds is passed over for
// the next free one; 0 is never given out. The values tell their keys, which are thus stored once.
type ids[K comparable, V any] struct {
	hash  func(K) uint32
	keyOf func(V) K
	byID  map[uint32]V
	moved map[K]uint32 // of the keys whose number is not their hash
}

func newIDs[K comparable, V any](hash func(K) uint32, keyOf func(V) K) ids[K, V] {
	return ids[K, V]{hash: hash, keyOf: keyOf, byID: map[uint32]V{}, moved: map[K]uint32{}}
}

// find returns a key's number and value.
func (a *ids[K, V]) find(k K) (id uint32, v V, ok bool) {
	if id, ok = a.moved[k]; ok {
		return id, a.byID[id], true
	}
	id = a.hash(k)
	if v, ok = a.byID[id]; ok && a.keyOf(v) == k {
		return id, v, true
	}
	var none V
	return 0, none, false
}

// get is find for a key that gets a number, with the value made for it, if it has none.
func (a *ids[K, V]) get(k K, value func(id uint32) V) (uint32, V) {
	if id, v, ok := a.find(k); ok {
		return id, v
	}
	id := a.hash(k)
	for {
		if _, taken := a.byID[id]; id != 0 && !taken {
			break
		}
		id++
	}
	return id, a.set(k, id, value(id))
}

func (a *ids[K, V]) set(k K, id uint32, v V) V {
	a.byID[id] = v
	if id != a.hash(k) {
		a.moved[k] = id
	}
	return v
}

// adopt records a number given out earlier, if both it and the key are free.
func (a *ids[K, V]) adopt(k K, id uint32, v V) {
	_, taken := a.byID[id]
	if _, _, ok := a.find(k); !ok && !taken && id != 0 {
		a.set(k, id, v)
	}
}

// free gives the key's number back.
func (a *ids[K, V]) free(k K) {
	if id, _, ok := a.find(k); ok {
		delete(a.byID, id)
		delete(a.moved, k)
	}
}

// keep frees the numbers of all values that are not live.
func (a *ids[K, V]) keep(live func(V) bool) {
	for _, v := range a.byID {
		if !live(v) {
			a.free(a.keyOf(v))
		}
	}
}
