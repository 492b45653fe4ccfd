package lb

import (
	"encoding/binary"

	"github.com/weirnet/weir/core/datapath"
)

// fnvOffset and fnvPrime are the parameters of 64-bit FNV-1a.
const (
	fnvOffset uint64 = 14695981039346656037
	fnvPrime  uint64 = 1099511628211
)

// hashString is FNV-1a over the bytes, started from the seed and finished by mix: FNV alone leaves
// the high bits of short names nearly constant. The values are part of what nodes agree on; they
// must never change.
func hashString(seed uint64, s string) uint64 {
	h := fnvOffset ^ mix(seed)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return mix(h)
}

// hashBytes is hashString for bytes.
func hashBytes(seed uint64, b []byte) uint64 {
	h := fnvOffset ^ mix(seed)
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return mix(h)
}

// mix spreads every input bit over all output bits; it is a bijection (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h
}

// Seeds that keep the ids of services apart from those of backends at the same address, and those of
// one frontend's scopes from each other.
const (
	seedBackendID  uint64 = 0x6261636b656e6400
	seedServiceID  uint64 = 0x7365727669636500
	seedExternalID uint64 = 0x65787465726e616c
)

// backendHash is the id that a backend has unless another holds it.
func backendHash(b datapath.Backend) uint32 {
	return tupleHash(seedBackendID, b.Addr.As16(), b.Port, b.Proto)
}

// serviceHash is the id that a frontend has unless another holds it.
func serviceHash(k datapath.ServiceKey) uint32 {
	seed := seedServiceID
	if k.Scope == datapath.External {
		seed = seedExternalID
	}
	return tupleHash(seed, k.Addr.As16(), k.Port, k.Proto)
}

// tupleHash tells the IPv4 address 0.0.0.0 from the IPv6 one ::, as As16 gives the former its prefix.
func tupleHash(seed uint64, addr [16]byte, port uint16, proto uint8) uint32 {
	var buf [19]byte
	copy(buf[:], addr[:])
	binary.BigEndian.PutUint16(buf[16:], port)
	buf[18] = proto
	return uint32(hashBytes(seed, buf[:]))
}
