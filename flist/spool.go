package flist

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/mapped"
)

// A spool is an append-only temporary file with no name. What was appended can be read
// back at any time.
type spool struct {
	f   *os.File
	buf []byte // not yet in the file
	n   int64  // bytes in the file
}

const spoolBuffer = 256 << 10

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "zosfs-flist-")
	if err != nil {
		return nil, fmt.Errorf("temporary file for the flist: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("temporary file for the flist: %w", err)
	}
	return &spool{f: f, buf: make([]byte, 0, spoolBuffer)}, nil
}

func (s *spool) size() int64 { return s.n + int64(len(s.buf)) }

func (s *spool) append(p []byte) error {
	if len(s.buf)+len(p) > cap(s.buf) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, p...)
	return nil
}

func (s *spool) flush() error {
	n, err := s.f.WriteAt(s.buf, s.n)
	s.n += int64(n)
	s.buf = s.buf[:0]
	return err
}

func (s *spool) readAt(p []byte, off int64) error {
	if off >= s.n {
		if copy(p, s.buf[off-s.n:]) < len(p) {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	k := min(int64(len(p)), s.n-off)
	if _, err := s.f.ReadAt(p[:k], off); err != nil {
		return err
	}
	copy(p[k:], s.buf)
	return nil
}

// reader flushes s and returns a reader of everything in it.
func (s *spool) reader() (*bufio.Reader, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(io.NewSectionReader(s.f, 0, s.n), spoolBuffer), nil
}

func (s *spool) close() error { return s.f.Close() }

// An internTable finds the number of a digest that was added before. It keeps 8 bytes a
// slot, about 11 to 22 a digest; the digests themselves are in a spool of fixed-size records
// that begin with them. A tag gives the place of a slot, so growing reads nothing; with ten
// million digests there are still 8 of its bits to tell neighbours apart, so the spool is
// read for what is there, and seldom else.
type internTable struct {
	digests *spool
	record  int64 // bytes of a record
	n       uint32
	slots   mapped.Slice[internSlot] // as many as a power of two
	touched int                      // slots since they were released
}

// touchedMax is how many slots are looked at, each in a page of its own, between two releases:
// 16 MiB.
const touchedMax = 4096

type internSlot struct{ tag, number uint32 }

func (t *internTable) find(d chunk.Digest) (uint32, bool, error) {
	slots, tag := t.slots.Items, internTag(d)
	if len(slots) == 0 {
		return 0, false, nil
	}
	if t.touched++; t.touched >= touchedMax {
		t.touched = 0
		t.slots.Release()
	}
	for i := int(tag) & (len(slots) - 1); slots[i].number != 0; i = (i + 1) & (len(slots) - 1) {
		if slots[i].tag != tag {
			continue
		}
		var have chunk.Digest
		if err := t.digests.readAt(have[:], int64(slots[i].number-1)*t.record); err != nil {
			return 0, false, err
		}
		if have == d {
			return slots[i].number, true, nil
		}
	}
	return 0, false, nil
}

// add gives d, which must not be in the table, the next number; the caller appends its
// record to the spool.
func (t *internTable) add(d chunk.Digest) (uint32, error) {
	if t.n == 1<<32-1 {
		return 0, fmt.Errorf("flist: more than %d rows in a table", t.n)
	}
	if int64(t.n)*4 >= int64(len(t.slots.Items))*3 {
		if err := t.grow(); err != nil {
			return 0, err
		}
	}
	t.n++
	put(t.slots.Items, internSlot{internTag(d), t.n})
	return t.n, nil
}

func put(slots []internSlot, s internSlot) {
	i := int(s.tag) & (len(slots) - 1)
	for slots[i].number != 0 {
		i = (i + 1) & (len(slots) - 1)
	}
	slots[i] = s
}

func (t *internTable) grow() error {
	grown := mapped.Slice[internSlot]{Dir: t.slots.Dir}
	if err := grown.Resize(max(64, 2*len(t.slots.Items))); err != nil {
		return errors.Join(err, grown.Close())
	}
	for i, s := range t.slots.Items {
		if s.number != 0 {
			put(grown.Items, s)
		}
		if i%touchedMax == touchedMax-1 {
			grown.Release()
		}
	}
	err := t.slots.Close()
	t.slots = grown
	return err
}

// internTag is a part of d, which is as good as random: digests are.
func internTag(d chunk.Digest) uint32 { return binary.LittleEndian.Uint32(d[:]) }
