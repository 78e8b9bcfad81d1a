package erofs

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// entries gives the entries of a directory with "." and ".." in their places: names ascend
// by bytes, and there are names before ".".
func (w *writer) entries(dir uint32) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		both := [2]Entry{{".", dir, modeDir}, {"..", w.tree.Parent(dir), modeDir}}
		dots := both[:]
		for e := range w.tree.Dir(dir) {
			for len(dots) > 0 && dots[0].Name < e.Name {
				if !yield(dots[0]) {
					return
				}
				dots = dots[1:]
			}
			if !yield(e) {
				return
			}
		}
		for _, d := range dots {
			if !yield(d) {
				return
			}
		}
	}
}

// dirSize returns the bytes of a directory: full blocks and what the last one has.
func (w *writer) dirSize(dir uint32) (int64, error) {
	var blocks int64
	used := 0
	last := ""
	for e := range w.entries(dir) {
		if len(e.Name) == 0 || len(e.Name) > 255 || e.Name <= last {
			return 0, fmt.Errorf("entry %q after %q", e.Name, last)
		}
		if e.Inode == 0 || int(e.Inode) > len(w.nids) {
			return 0, fmt.Errorf("entry %q: no inode %d", e.Name, e.Inode)
		}
		last = e.Name
		n := direntSize + len(e.Name)
		if used+n > BlockSize {
			blocks, used = blocks+1, 0
		}
		used += n
	}
	return blocks*BlockSize + int64(used), nil
}

// dirBlocks calls fn for each block of a directory, numbered from 0: the entries, then
// their names; all blocks but the last are full, with zeros at the end.
func (w *writer) dirBlocks(dir uint32, fn func(int64, []byte) error) error {
	var no int64
	batch := w.batch[:0]
	used := 0
	for e := range w.entries(dir) {
		n := direntSize + len(e.Name)
		if used+n > BlockSize {
			block := w.dirBlock(batch)
			for len(block) < BlockSize {
				block = append(block, 0)
			}
			if err := fn(no, block); err != nil {
				return err
			}
			no, batch, used = no+1, batch[:0], 0
		}
		batch = append(batch, e)
		used += n
	}
	w.batch = batch
	return fn(no, w.dirBlock(batch))
}

func (w *writer) dirBlock(batch []Entry) []byte {
	b := w.buf[:0]
	off := direntSize * len(batch)
	for _, e := range batch {
		b = binary.LittleEndian.AppendUint64(b, uint64(w.nids[e.Inode-1]))
		b = binary.LittleEndian.AppendUint16(b, uint16(off))
		b = append(b, fileType(e.Mode), 0)
		off += len(e.Name)
	}
	for _, e := range batch {
		b = append(b, e.Name...)
	}
	w.buf = b
	return b
}
