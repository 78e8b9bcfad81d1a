package cache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

const (
	pinMagic      = "zosfspin"
	pinHeaderSize = 16
	pinSuffix     = ".pin"
	maxName       = 255 // bytes of a file name, on every file system that matters
	fenceEvery    = 128 // digests: one read of 4 KiB
)

// pin is a set of digests in a file, of which every 128th is in memory: a look costs one
// small read, and 10 million pinned chunks 610 KiB.
type pin struct {
	file   *os.File
	n      int      // digests
	fences []uint64 // first 8 bytes of digest 0, 128, 256 ..., big-endian
}

func pinFile(name string) (string, error) {
	file := url.PathEscape(name) + pinSuffix
	if name == "" || len(file) > maxName {
		return "", fmt.Errorf("pin name %.80q: want 1 to %d bytes when escaped, have %d: %w",
			name, maxName-len(pinSuffix), len(file)-len(pinSuffix), fs.ErrInvalid)
	}
	return file, nil
}

// parsePinFile is the reverse of pinFile.
func parsePinFile(file string) (string, bool) {
	esc, ok := strings.CutSuffix(file, pinSuffix)
	name, err := url.PathUnescape(esc)
	return name, ok && err == nil && name != "" && url.PathEscape(name) == esc
}

// Pin keeps the chunks, whether they are held now or come later, from being evicted, until
// Unpin of the same name. It replaces an earlier pin of that name. When it returns nil, the
// pin survives a crash; it takes 32 bytes of disk a chunk, and as much memory while it is
// made. More pinned chunks than the limit allows leave no room: the rest passes through. A
// reader's is ErrReadOnly, a name that is empty or too long fs.ErrInvalid.
func (c *Cache) Pin(name string, chunks iter.Seq[chunk.Digest]) error {
	base, err := pinFile(name)
	if err != nil {
		return err
	}
	digests := slices.SortedFunc(chunks, func(a, b chunk.Digest) int { return bytes.Compare(a[:], b[:]) })
	digests = slices.Compact(digests)
	if err := c.takeToWrite(context.Background()); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	defer c.give()
	path := filepath.Join(c.pinDir, base)
	err = atomicfile.Write(path, 0o600, func(w io.Writer) error { return writePin(w, digests) })
	if err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	p, err := openPin(path)
	if err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	c.setPin(name, p)
	return nil
}

// Unpin ends a pin; its chunks may be evicted from now on. A name that is not pinned is
// errs.ErrNotFound, a reader's call ErrReadOnly.
func (c *Cache) Unpin(name string) error {
	if err := c.takeToWrite(context.Background()); err != nil {
		return fmt.Errorf("unpin %s: %w", name, err)
	}
	defer c.give()
	base, err := pinFile(name)
	if err == nil {
		err = os.Remove(filepath.Join(c.pinDir, base)) // also one that could not be read
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !slices.Contains(c.Pins(), name):
		return fmt.Errorf("unpin %s: %w", name, errs.ErrNotFound)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("unpin %s: %w", name, err)
	}
	c.setPin(name, nil)
	return nil
}

// setPin puts p, or nothing if it is nil, in the place of the pin with that name.
func (c *Cache) setPin(name string, p *pin) {
	c.rest = 0
	c.mu.Lock()
	old := c.pins[name]
	if p != nil {
		c.pins[name] = p
		c.bytes.Add(p.bytes())
	} else {
		delete(c.pins, name)
	}
	c.mu.Unlock()
	if old != nil {
		c.bytes.Add(-old.bytes())
		_ = old.file.Close()
	}
}

func (c *Cache) clearPins() {
	for _, name := range c.Pins() {
		c.setPin(name, nil)
	}
}

// Pins returns the names of the pins, ascending. A reader knows those that were there when
// it was opened.
func (c *Cache) Pins() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Sorted(maps.Keys(c.pins))
}

func (c *Cache) pinList() []*pin {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Collect(maps.Values(c.pins))
}

// loadPins opens all pins. One that is damaged cannot be obeyed, and is left for a Pin of
// its name to replace.
func (c *Cache) loadPins() error {
	files, err := os.ReadDir(c.pinDir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(c.pinDir, f.Name())
		name, ok := parsePinFile(f.Name())
		if !ok {
			if atomicfile.IsTemp(f.Name()) && !c.readOnly.Load() {
				_ = os.Remove(path)
			}
			continue
		}
		p, err := openPin(path)
		if err != nil {
			c.opts.Log.Error("cache: a pin cannot be read; its chunks may be evicted", "pin", name, "err", err)
			continue
		}
		c.setPin(name, p)
	}
	return nil
}

func writePin(w io.Writer, digests []chunk.Digest) error {
	h := chunk.NewHasher()
	b := bufio.NewWriterSize(io.MultiWriter(w, h), 64<<10)
	var head [pinHeaderSize]byte
	copy(head[:], pinMagic)
	binary.LittleEndian.PutUint32(head[8:], version)
	_, _ = b.Write(head[:])
	for i := range digests {
		_, _ = b.Write(digests[i][:])
	}
	if err := b.Flush(); err != nil { // and whatever failed before
		return err
	}
	sum := h.Sum()
	_, err := w.Write(sum[:])
	return err
}

func openPin(path string) (*pin, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p, err := readPin(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p.file = f
	return p, nil
}

// readPin checks all of a pin file.
func readPin(r io.Reader) (*pin, error) {
	b, h := bufio.NewReaderSize(r, 64<<10), chunk.NewHasher()
	var head [pinHeaderSize]byte
	if _, err := io.ReadFull(b, head[:]); err != nil || string(head[:8]) != pinMagic ||
		binary.LittleEndian.Uint32(head[8:]) != version {
		return nil, fmt.Errorf("pin header: %w", errs.ErrFormat)
	}
	_, _ = h.Write(head[:])
	p := &pin{}
	var last, d chunk.Digest
	if _, err := io.ReadFull(b, last[:]); err != nil {
		return nil, fmt.Errorf("pin: %w", errs.ErrCorrupt)
	}
	for {
		// last is a digest if another one follows, else the sum of what came before it.
		_, err := io.ReadFull(b, d[:])
		switch {
		case errors.Is(err, io.EOF) && h.Sum() == last:
			return p, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("pin: %w", errs.ErrCorrupt)
		case err != nil:
			return nil, err
		}
		if p.n%fenceEvery == 0 {
			p.fences = append(p.fences, binary.BigEndian.Uint64(last[:8]))
		}
		p.n++
		_, _ = h.Write(last[:])
		last = d
	}
}

func (p *pin) bytes() int64 { return pinHeaderSize + int64(p.n+1)*chunk.DigestSize }

// contains reports whether d is in the set. If the file cannot be read, it might be.
func (p *pin) contains(d chunk.Digest) bool {
	key := binary.BigEndian.Uint64(d[:8])
	// The blocks that may have it begin at or below key, and the next one at or above.
	first := sort.Search(len(p.fences), func(i int) bool { return p.fences[i] >= key })
	for i := max(first-1, 0); i < len(p.fences) && p.fences[i] <= key; i++ {
		if p.blockContains(i, d) {
			return true
		}
	}
	return false
}

func (p *pin) blockContains(i int, d chunk.Digest) bool {
	var block [fenceEvery * chunk.DigestSize]byte
	n := min(fenceEvery, p.n-i*fenceEvery)
	b := block[:n*chunk.DigestSize]
	if readFull(p.file, b, pinHeaderSize+int64(i)*int64(len(block))) != nil {
		return true
	}
	k := sort.Search(n, func(k int) bool { return bytes.Compare(b[k*chunk.DigestSize:][:chunk.DigestSize], d[:]) >= 0 })
	return k < n && chunk.Digest(b[k*chunk.DigestSize:][:chunk.DigestSize]) == d
}
