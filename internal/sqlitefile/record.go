package sqlitefile

import (
	"encoding/binary"
	"fmt"
)

// Kind is the type of a [Value].
type Kind uint8

// The types of values. Reals are not read.
const (
	Null Kind = iota
	Int
	Blob
	Text
)

// A Value is one column of a row. Bytes alias the row.
type Value struct {
	Kind  Kind
	Int   int64
	Bytes []byte // of a Blob or Text
}

// A Record builds a row. The zero value is an empty row; Reset makes it that again.
type Record struct {
	head, body, out []byte
}

// Reset empties r and keeps its memory.
func (r *Record) Reset() { r.head, r.body = r.head[:0], r.body[:0] }

// Null appends NULL, which is also what an INTEGER PRIMARY KEY column holds.
func (r *Record) Null() *Record {
	r.head = append(r.head, 0)
	return r
}

// Int appends an integer in the shortest form that the format has for it.
func (r *Record) Int(v int64) *Record {
	switch {
	case v == 0:
		r.head = append(r.head, 8)
	case v == 1:
		r.head = append(r.head, 9)
	case v == int64(int8(v)):
		r.head, r.body = append(r.head, 1), append(r.body, byte(v))
	case v == int64(int16(v)):
		r.head, r.body = append(r.head, 2), binary.BigEndian.AppendUint16(r.body, uint16(v))
	case v >= -1<<23 && v < 1<<23:
		r.head, r.body = append(r.head, 3), append(r.body, byte(v>>16), byte(v>>8), byte(v))
	case v == int64(int32(v)):
		r.head, r.body = append(r.head, 4), binary.BigEndian.AppendUint32(r.body, uint32(v))
	case v >= -1<<47 && v < 1<<47:
		r.head = append(r.head, 5)
		r.body = append(r.body, byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	default:
		r.head, r.body = append(r.head, 6), binary.BigEndian.AppendUint64(r.body, uint64(v))
	}
	return r
}

// Blob appends bytes; they are copied.
func (r *Record) Blob(p []byte) *Record {
	r.head = putVarint(r.head, uint64(12+2*len(p)))
	r.body = append(r.body, p...)
	return r
}

// Text appends a string.
func (r *Record) Text(s string) *Record {
	r.head = putVarint(r.head, uint64(13+2*len(s)))
	r.body = append(r.body, s...)
	return r
}

// encode returns the payload of the row; it holds until the next call on r.
func (r *Record) encode() []byte {
	n := len(r.head) + 1
	if n > 127 {
		n++ // the length of the header counts itself; two bytes reach 16383
	}
	r.out = putVarint(r.out[:0], uint64(n))
	r.out = append(r.out, r.head...)
	r.out = append(r.out, r.body...)
	return r.out
}

// decode splits the payload of a row into exactly len(dst) columns.
func decode(p []byte, dst []Value) error {
	hlen, n := varint(p)
	if n == 0 || hlen < uint64(n) || hlen > uint64(len(p)) {
		return fmt.Errorf("row: header of %d bytes in %d: %w", hlen, len(p), ErrCorrupt)
	}
	head, body := p[n:hlen], p[hlen:]
	for i := range dst {
		t, n := varint(head)
		if n == 0 {
			return fmt.Errorf("row: %d columns, want %d: %w", i, len(dst), ErrCorrupt)
		}
		head = head[n:]
		size, kind, ok := serialType(t)
		if !ok || size > uint64(len(body)) {
			return fmt.Errorf("row: column %d of type %d does not fit: %w", i, t, ErrCorrupt)
		}
		v := Value{Kind: kind}
		switch {
		case kind == Blob || kind == Text:
			v.Bytes = body[:size:size]
		case t == 9:
			v.Int = 1
		case kind == Int:
			v.Int = bigEndian(body[:size])
		}
		dst[i], body = v, body[size:]
	}
	if len(head) != 0 || len(body) != 0 {
		return fmt.Errorf("row: %d bytes beyond its columns: %w", len(head)+len(body), ErrCorrupt)
	}
	return nil
}

func serialType(t uint64) (size uint64, k Kind, ok bool) {
	switch {
	case t == 0:
		return 0, Null, true
	case t <= 4:
		return t, Int, true
	case t == 5:
		return 6, Int, true
	case t == 6:
		return 8, Int, true
	case t == 8 || t == 9:
		return 0, Int, true
	case t >= 12:
		return (t - 12) / 2, Blob + Kind(t&1), true
	}
	return 0, 0, false
}

func bigEndian(p []byte) int64 {
	if len(p) == 0 {
		return 0
	}
	v := int64(int8(p[0]))
	for _, b := range p[1:] {
		v = v<<8 | int64(b)
	}
	return v
}
