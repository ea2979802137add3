package tables

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"math/bits"
)

// Sum is an unsigned integer modulo 2^256, least significant word first. The sum of
// row digests does not depend on their order, and a removed row is subtracted, so its
// cost does not grow with the table. Unlike with XOR, equal rows do not cancel out.
type Sum [4]uint64

// Add adds a digest.
func (s *Sum) Add(d [sha256.Size]byte) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], binary.LittleEndian.Uint64(d[8*i:]), carry)
	}
}

// Sub subtracts a digest.
func (s *Sum) Sub(d [sha256.Size]byte) {
	var borrow uint64
	for i := range s {
		s[i], borrow = bits.Sub64(s[i], binary.LittleEndian.Uint64(d[8*i:]), borrow)
	}
}

// Bytes is the sum as it is stored.
func (s Sum) Bytes() []byte {
	b := make([]byte, sha256.Size)
	for i := range s {
		binary.LittleEndian.PutUint64(b[8*i:], s[i])
	}
	return b
}

func (s Sum) String() string { return hex.EncodeToString(s.Bytes()) }

// Digester computes SHA-256(table NUL row), where each value of the row has its
// type and its length before it, so that no two rows have the same bytes.
type Digester struct {
	h   hash.Hash
	buf []byte
}

// NewDigester returns a Digester for one goroutine.
func NewDigester() *Digester { return &Digester{h: sha256.New()} }

// Row is the digest of a row of a table.
func (d *Digester) Row(table string, vals []any) ([sha256.Size]byte, error) {
	b := append(d.buf[:0], table...)
	b = append(b, 0)
	for _, v := range vals {
		switch v := v.(type) {
		case nil:
			b = append(b, 'n')
		case int64:
			b = append(b, 'i')
			b = binary.BigEndian.AppendUint64(b, uint64(v)) //nolint:gosec // two's complement is what is wanted
		case string:
			b = append(b, 't')
			b = binary.BigEndian.AppendUint64(b, uint64(len(v)))
			b = append(b, v...)
		case []byte:
			b = append(b, 'b')
			b = binary.BigEndian.AppendUint64(b, uint64(len(v)))
			b = append(b, v...)
		case float64:
			b = append(b, 'f')
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
		default:
			return [sha256.Size]byte{}, fmt.Errorf("digest of a %T in %s", v, table)
		}
	}
	d.buf = b
	var out [sha256.Size]byte
	d.h.Reset()
	d.h.Write(b)
	d.h.Sum(out[:0])
	return out, nil
}

func sameDigest(d [sha256.Size]byte, stored any) bool {
	b, ok := stored.([]byte)
	return ok && len(b) == len(d) && [sha256.Size]byte(b) == d
}
