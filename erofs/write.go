package erofs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Options are what an image has besides its tree.
type Options struct {
	UUID         [16]byte // names the image
	DeviceBlocks uint32   // size of the content device, in blocks; 0 is one without files
}

// Offsets and sizes of the format, in bytes.
const (
	superOffset = 1024
	superSize   = 128
	slotOffset  = superOffset + superSize // of the device table, a multiple of its slots
	slotSize    = 128
	inodeSize   = 64
	nidSize     = 32 // inodes are named by their offset in these
	indexSize   = 8
	direntSize  = 12

	superMagic = 0xe0f5e1e2

	compatChecksum      = 1 << 0
	incompatChunkedFile = 1 << 2
	incompatDeviceTable = 1 << 3

	layoutPlain  = 0
	layoutInline = 2
	layoutChunk  = 4

	chunkIndexes = 0x20       // the file has an index of 8 bytes a chunk
	maxChunkBits = 31         // beyond those of a block
	nullBlock    = 0xffffffff // a hole

	// inlineMax bounds what lies behind an inode in its block: more would waste the rest of
	// a block too often.
	inlineMax = 1024
	// maxIndexes bounds the indexes of one file, at 16 MiB of metadata: a file of 8 GiB may
	// have holes of one block. In a larger one that small holes would need more for, chunks
	// that hold any data are data, and the device gives their zeros.
	maxIndexes = 1 << 21
)

// Write writes the image of t to w and returns its size in bytes.
func Write(w io.Writer, t Tree, o Options) (int64, error) {
	wr := &writer{tree: t, opts: o}
	if err := wr.layOut(); err != nil {
		return 0, err
	}
	wr.out = bufio.NewWriterSize(w, 256<<10)
	for _, step := range []func() error{wr.emitSuper, wr.emitInodes, wr.emitBlocks, wr.emitXattrs, wr.out.Flush} {
		if err := step(); err != nil {
			return wr.at, err
		}
	}
	return wr.at, nil
}

// writer has what the first pass found out, and the state of the second.
type writer struct {
	tree   Tree
	opts   Options
	xattrs sharedXattrs

	nids   []uint32 // by number of the inode less 1
	blocks int64    // first block of larger directories and symlinks
	shared int64    // first block of the shared attributes
	end    int64    // all blocks

	out   *bufio.Writer
	at    int64
	next  int64  // block that the next larger directory or symlink gets
	buf   []byte // of a directory block
	inode []byte
	batch []Entry
}

// place is where the parts of one inode lie.
type place struct {
	layout int
	body   int // bytes of its attributes
	inline int // bytes behind them, in the same block
	index  int // chunk indexes behind them
	bits   int // of a chunk, beyond those of a block
	blocks int64
	size   int64
}

// layOut is the first pass.
func (w *writer) layOut() error {
	if err := w.xattrs.collect(w.tree); err != nil {
		return err
	}
	w.nids = make([]uint32, w.tree.Len())
	pos, blocks := int64(BlockSize), int64(0)
	n := 0
	for number, in := range w.tree.Inodes() {
		if int(number) != n+1 || n == len(w.nids) {
			return fmt.Errorf("inode %d where %d is next", number, n+1)
		}
		p, err := w.place(number, &in)
		if err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
		pos = p.start(pos)
		if pos/nidSize > math.MaxUint32 {
			return fmt.Errorf("%d inodes: %w", len(w.nids), ErrUnsupported)
		}
		w.nids[n] = uint32(pos / nidSize)
		pos += p.length(pos)
		blocks += p.blocks
		n++
	}
	if n != len(w.nids) || n == 0 {
		return fmt.Errorf("%d inodes, want %d", n, len(w.nids))
	}
	w.blocks = (pos + BlockSize - 1) / BlockSize
	w.shared = w.blocks + blocks
	w.end = w.shared + (w.xattrs.size+BlockSize-1)/BlockSize
	if w.end > math.MaxUint32 {
		return fmt.Errorf("image of %d blocks: %w", w.end, ErrUnsupported)
	}
	return nil
}

// start returns where an inode lies that could begin at pos: what is inline must not cross
// a block.
func (p *place) start(pos int64) int64 {
	pos = (pos + nidSize - 1) / nidSize * nidSize
	if tail := pos%BlockSize + inodeSize + int64(p.body); p.inline > 0 && tail/BlockSize != (tail+int64(p.inline)-1)/BlockSize {
		pos = (pos + BlockSize - 1) / BlockSize * BlockSize
	}
	return pos
}

// length returns how many bytes the inode takes from pos on.
func (p *place) length(pos int64) int64 {
	n := int64(inodeSize + p.body + p.inline)
	if p.index > 0 {
		n = (pos+n+indexSize-1)/indexSize*indexSize - pos + int64(p.index)*indexSize
	}
	return n
}

func (w *writer) place(number uint32, in *Inode) (place, error) {
	body, err := w.xattrs.body(in.Xattrs)
	p := place{body: body}
	if err != nil {
		return p, err
	}
	switch in.Mode & modeType {
	case modeDir:
		if p.size, err = w.dirSize(number); err != nil {
			return p, err
		}
		p.data(p.size)
	case modeSymlink:
		if p.size = int64(len(in.Target)); p.size >= BlockSize { // the kernel would cut it short
			return p, fmt.Errorf("symlink target of %d bytes: %w", p.size, ErrUnsupported)
		}
		p.data(p.size)
	case modeRegular:
		err = p.chunks(in)
	}
	return p, err
}

// data places n bytes that lie in the image: the last block's share inline, if it is small.
func (p *place) data(n int64) {
	p.blocks = n / BlockSize
	switch tail := n % BlockSize; {
	case tail > 0 && tail <= inlineMax && int64(p.body)+tail <= BlockSize/2:
		p.layout, p.inline = layoutInline, int(tail)
	case tail > 0:
		p.blocks++
	}
}

// chunks places the content of a regular file: the largest chunks whose borders fall on
// those of its holes.
func (p *place) chunks(in *Inode) error {
	p.size = in.Size
	if in.Size == 0 {
		return nil
	}
	if in.Addr < 0 || in.Addr%BlockSize != 0 || (in.Addr+in.Size-1)/BlockSize >= nullBlock {
		return fmt.Errorf("%d bytes at %d of the device: %w", in.Size, in.Addr, ErrUnsupported)
	}
	p.layout = layoutChunk
	whole := 0
	for whole < maxChunkBits && int64(BlockSize)<<whole < in.Size {
		whole++
	}
	p.bits = whole
	for _, r := range in.Data {
		for p.bits > 0 && (aligned(r.Off, p.bits) != r.Off || r.Off+r.Len < in.Size && aligned(blockUp(r.Off+r.Len), p.bits) != blockUp(r.Off+r.Len)) {
			p.bits--
		}
	}
	for p.count(in.Size) > maxIndexes { // which maxChunkBits allow: 2^43 bytes are one chunk
		p.bits++
	}
	p.index = int(p.count(in.Size))
	return nil
}

func (p *place) count(size int64) int64 {
	chunk := int64(BlockSize) << p.bits
	return (size-1)/chunk + 1
}

func aligned(off int64, bits int) int64 { return off &^ (int64(BlockSize)<<bits - 1) }

func blockUp(off int64) int64 { return (off + BlockSize - 1) / BlockSize * BlockSize }

var zeros [BlockSize]byte // never written to

// pad writes zeros up to the offset to.
func (w *writer) pad(to int64) error {
	for w.at < to {
		if err := w.write(zeros[:min(to-w.at, BlockSize)]); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) write(p []byte) error {
	n, err := w.out.Write(p)
	w.at += int64(n)
	return err
}

func (w *writer) emitSuper() error {
	block := make([]byte, BlockSize)
	s := block[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(s, superMagic)
	le.PutUint32(s[8:], compatChecksum)
	s[12] = 12 // bits of a block
	le.PutUint16(s[14:], uint16(w.nids[Root-1]))
	le.PutUint64(s[16:], uint64(len(w.nids)))
	le.PutUint32(s[36:], uint32(w.end))
	le.PutUint32(s[44:], uint32(w.shared))
	copy(s[48:64], w.opts.UUID[:])
	le.PutUint32(s[80:], incompatChunkedFile|incompatDeviceTable)
	le.PutUint16(s[86:], 1) // extra devices
	le.PutUint16(s[88:], slotOffset/slotSize)
	slot := block[slotOffset:]
	copy(slot, "content")
	le.PutUint32(slot[64:], w.opts.DeviceBlocks)
	// CRC-32C of the block from the superblock on, without the final inversion.
	le.PutUint32(s[4:], ^crc32.Checksum(s, crc32.MakeTable(crc32.Castagnoli)))
	return w.write(block)
}

func (w *writer) emitInodes() error {
	w.next = w.blocks
	for number, in := range w.tree.Inodes() {
		p, err := w.place(number, &in)
		if err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
		pos := int64(w.nids[number-1]) * nidSize
		if pos != p.start(w.at) {
			return fmt.Errorf("inode %d: the tree has changed while it was written", number)
		}
		if err := w.pad(pos); err != nil {
			return err
		}
		if err := w.emitInode(number, &in, &p); err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
		w.next += p.blocks
	}
	return w.pad(w.blocks * BlockSize)
}

func (w *writer) emitInode(number uint32, in *Inode, p *place) error {
	le := binary.LittleEndian
	b := append(w.inode[:0], make([]byte, inodeSize)...)
	le.PutUint16(b, uint16(1|p.layout<<1)) // extended
	if p.body > 0 {
		le.PutUint16(b[2:], uint16((p.body-bodyHeader)/4+1))
	}
	le.PutUint16(b[4:], uint16(in.Mode))
	le.PutUint64(b[8:], uint64(p.size))
	switch {
	case p.layout == layoutChunk:
		le.PutUint16(b[16:], uint16(chunkIndexes|p.bits))
	case in.Mode&modeType == modeChar || in.Mode&modeType == modeBlock:
		dev, err := device(in.Rdev)
		if err != nil {
			return err
		}
		le.PutUint32(b[16:], dev)
	case p.blocks > 0:
		le.PutUint32(b[16:], uint32(w.next))
	default:
		le.PutUint32(b[16:], nullBlock) // no block at all
	}
	le.PutUint32(b[20:], number)
	le.PutUint32(b[24:], in.UID)
	le.PutUint32(b[28:], in.GID)
	sec, nsec := in.MTime/1e9, in.MTime%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	le.PutUint64(b[32:], uint64(sec))
	le.PutUint32(b[40:], uint32(nsec))
	le.PutUint32(b[44:], in.Nlink)
	b = w.xattrs.appendBody(b, in.Xattrs)
	switch {
	case p.inline > 0 && in.Mode&modeType == modeSymlink:
		b = append(b, in.Target[p.blocks*BlockSize:]...)
	case p.inline > 0:
		err := w.dirBlocks(number, func(i int64, block []byte) error {
			if i == p.blocks {
				b = append(b, block...)
			}
			return nil
		})
		if err != nil {
			return err
		}
	case p.index > 0:
		for (w.at+int64(len(b)))%indexSize != 0 {
			b = append(b, 0)
		}
		b = appendIndexes(b, in, p)
	}
	w.inode = b
	return w.write(b)
}

// appendIndexes appends an index for each chunk: the first extra device and the block where
// the chunk begins, or a hole.
func appendIndexes(b []byte, in *Inode, p *place) []byte {
	runs := in.Data
	chunk := int64(BlockSize) << p.bits
	for off := int64(0); off < in.Size; off += chunk {
		for len(runs) > 0 && runs[0].Off+runs[0].Len <= off {
			runs = runs[1:]
		}
		if in.Data != nil && (len(runs) == 0 || runs[0].Off >= off+chunk) {
			b = append(b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(b, 0, 0, 1, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32((in.Addr+off)/BlockSize))
	}
	return b
}

// device encodes a device number as the kernel's new_encode_dev, which has 12 bits of major
// and 20 of minor.
func device(rdev uint64) (uint32, error) {
	major := rdev>>8&0xfff | rdev>>32&^0xfff
	minor := rdev&0xff | rdev>>12&^0xff
	if major > 0xfff || minor > 0xfffff {
		return 0, fmt.Errorf("device %d:%d: %w", major, minor, ErrUnsupported)
	}
	return uint32(minor&0xff | major<<8 | minor&^0xff<<12), nil
}

// emitBlocks writes what did not fit behind its inode.
func (w *writer) emitBlocks() error {
	for number, in := range w.tree.Inodes() {
		kind := in.Mode & modeType
		if kind != modeDir && kind != modeSymlink {
			continue
		}
		p, err := w.place(number, &in)
		if err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
		if p.blocks == 0 {
			continue
		}
		if kind == modeSymlink {
			err = w.write([]byte(in.Target[:min(p.blocks*BlockSize, p.size)]))
		} else {
			err = w.dirBlocks(number, func(i int64, block []byte) error {
				if i == p.blocks {
					return nil // it is inline
				}
				return w.write(block)
			})
		}
		if err != nil {
			return fmt.Errorf("inode %d: %w", number, err)
		}
		if err := w.pad(blockUp(w.at)); err != nil {
			return err
		}
	}
	if w.at != w.shared*BlockSize {
		return fmt.Errorf("the tree has changed while it was written")
	}
	return nil
}

func (w *writer) emitXattrs() error {
	for _, p := range w.xattrs.entries {
		if err := w.write(p); err != nil {
			return err
		}
	}
	return w.pad(w.end * BlockSize)
}
