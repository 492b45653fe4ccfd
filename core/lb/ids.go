package lb

// ids gives out 32-bit numbers that are hashes of their keys, so that every node and every restart
// comes to the same ones. A number that another key holds is passed over for the next free one; 0 is
// never given out.
type ids[K comparable] struct {
	hash  func(K) uint32
	byKey map[K]uint32
	owner map[uint32]K
}

func newIDs[K comparable](hash func(K) uint32) ids[K] {
	return ids[K]{hash: hash, byKey: map[K]uint32{}, owner: map[uint32]K{}}
}

// get returns the key's number, a new one if it has none.
func (a *ids[K]) get(k K) uint32 {
	if id, ok := a.byKey[k]; ok {
		return id
	}
	id := a.hash(k)
	for {
		if _, taken := a.owner[id]; id != 0 && !taken {
			break
		}
		id++
	}
	a.byKey[k], a.owner[id] = id, k
	return id
}

// adopt records a number given out earlier, if both it and the key are free.
func (a *ids[K]) adopt(k K, id uint32) {
	if _, ok := a.byKey[k]; ok || id == 0 {
		return
	}
	if _, ok := a.owner[id]; ok {
		return
	}
	a.byKey[k], a.owner[id] = id, k
}

// free gives the key's number back.
func (a *ids[K]) free(k K) {
	if id, ok := a.byKey[k]; ok {
		delete(a.byKey, k)
		delete(a.owner, id)
	}
}

// keep frees the numbers of all keys that are not live.
func (a *ids[K]) keep(live func(K) bool) {
	for k := range a.byKey {
		if !live(k) {
			a.free(k)
		}
	}
}
