package treetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// piece is data at an offset of a file.
type piece struct {
	off  int64
	data []byte
}

// pieces makes a file of that size with holes wherever there is no data.
func (b *odd) pieces(name string, size int64, data ...piece) {
	b.t.Helper()
	f, err := os.Create(b.path(name))
	b.must(err)
	err = f.Truncate(size)
	for _, p := range data {
		_, werr := f.WriteAt(p.data, p.off)
		err = errors.Join(err, werr)
	}
	b.must(errors.Join(err, f.Close()))
}

func (b *odd) sparse() {
	const kib, mib = int64(1) << 10, int64(1) << 20
	d, data := b.mkdir("sparse"), b.noise(64<<10, 1)
	b.pieces(d+"begin", mib+int64(len(data)), piece{mib, data})
	b.pieces(d+"middle", 2*mib, piece{0, data}, piece{2*mib - int64(len(data)), data})
	b.pieces(d+"end", mib, piece{0, data})
	b.pieces(d+"all", 3*mib)
	b.pieces(d+"all-one-byte", 1)
	b.pieces(d+"all-odd-size", 3*mib+4097)
	b.pieces(d+"odd-offsets", mib+1, piece{5000, data[:100]}, piece{300_001, data[:60_001]})
	b.pieces(d+"zeros-that-are-data", 256*kib, piece{0, make([]byte, 256*kib)})
	b.pieces(d+"last-byte", mib, piece{mib - 1, []byte{1}})
	var comb []piece
	for off := int64(0); off < 2*mib; off += 32 * kib {
		comb = append(comb, piece{off, data[:4*kib]})
	}
	b.pieces(d+"comb", 2*mib, comb...)
}

// sizes makes files around the limits of chunks, and content of several kinds.
func (b *odd) sizes() {
	d := b.mkdir("sizes")
	for _, limit := range []int{4 << 10, 32 << 10, 128 << 10, 512 << 10} {
		for _, n := range []int{limit - 1, limit, limit + 1} {
			b.file(fmt.Sprintf("%snoise-%07d", d, n), b.noise(n, uint64(n)))
		}
		b.file(fmt.Sprintf("%stext-%07d", d, limit), lines(limit))
	}
	b.text(d+"one-byte", "1")
	b.text(d+"one-byte-too", "2")
	large := b.noise(3<<20+17, 2)
	b.file(d+"large", large)
	b.file(d+"large-copy", large)
	b.file(d+"large-edited", append(append(bytes.Clone(large[:1<<20]), "inserted"...), large[1<<20:]...))
	b.file(d+"large-text", lines(2<<20))
	b.file(d+"one-byte-repeated", bytes.Repeat([]byte{'z'}, 1<<20))
	for i := range 5 {
		b.text(fmt.Sprintf("%sduplicate-%d", d, i), "the same in five files")
	}
}

// lines returns n bytes of text that compresses.
func lines(n int) []byte {
	var s strings.Builder
	for i := 0; s.Len() < n; i++ {
		fmt.Fprintf(&s, "%d: the quick brown fox jumps over %d lazy dogs\n", i, i*i)
	}
	return []byte(s.String()[:n])
}

// big makes files beyond 4 GiB; their holes keep them small on disk.
func (b *odd) big() {
	const gib = int64(1) << 30
	d, data := b.mkdir("big"), b.noise(1<<20, 3)
	b.pieces(d+"sparse", 5*gib+123, piece{1000, data}, piece{4*gib - 5000, data[:10_000]}, piece{5*gib + 100, data[:23]})
	b.pieces(d+"just-above", 4*gib+1, piece{4 * gib, []byte("x")})
	b.pieces(d+"hole", 4*gib)
}
