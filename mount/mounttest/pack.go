package mounttest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
)

// pieceSize is the size of chunks, in bytes; their ends do not depend on content.
const pieceSize = 128 << 10

// Pack puts the content of the tree dir into blobs, of about blobSize bytes each (0 is
// blob.TargetSize), and returns the path of its flist, which is there until the test ends.
func Pack(t testing.TB, dir string, put store.Putter, blobSize int) string {
	t.Helper()
	path := filepath.Join(testenv.TempDir(t), "tree.flist")
	if err := pack(t, dir, put, blobSize, path); err != nil {
		t.Fatalf("pack %s: %v", dir, err)
	}
	return path
}

// Open opens the flist at path as an image that reads from src, until the test ends.
func Open(t testing.TB, path string, src store.Getter, o image.Options) *image.Image {
	t.Helper()
	r, err := flist.Open(path, flist.OpenOptions{TempDir: filepath.Dir(path)})
	if err != nil {
		t.Fatal(err)
	}
	im, err := image.New(r, src, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Errorf("close image: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("close flist: %v", err)
		}
	})
	return im
}

// Image packs the tree dir and opens it, with content in memory.
func Image(t testing.TB, dir string) *image.Image {
	t.Helper()
	blobs := mem.New()
	return Open(t, Pack(t, dir, blobs, 0), blobs, image.Options{})
}

type packer struct {
	t        testing.TB
	w        *flist.Writer
	put      store.Putter
	blobSize int
	sealer   *blob.Sealer
	blob     *blob.Writer // nil between blobs
	id       flist.BlobID
	nodes    map[[2]uint64]flist.NodeID // by device and inode
	buf      []byte
}

func pack(t testing.TB, dir string, put store.Putter, blobSize int, path string) error {
	w, err := flist.NewWriter(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	sealer, err := blob.NewSealer()
	if err != nil {
		return err
	}
	if blobSize == 0 {
		blobSize = blob.TargetSize
	}
	p := &packer{t: t, w: w, put: put, blobSize: blobSize, sealer: sealer,
		nodes: make(map[[2]uint64]flist.NodeID), buf: make([]byte, 1<<20)}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	id, _, err := p.node(unix.AT_FDCWD, dir)
	if err == nil {
		err = p.walk(root, id)
	}
	if err == nil {
		err = p.flush()
	}
	if err == nil {
		_, err = w.Finish(path)
	}
	return err
}

// walk adds what lies in dir, and closes it.
func (p *packer) walk(dir *os.File, id flist.NodeID) error {
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	dirs := make(map[string]flist.NodeID)
	for _, name := range names {
		child, isDir, err := p.node(int(dir.Fd()), name)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if err := p.w.AddEntry(id, []byte(name), child); err != nil {
			return err
		}
		if isDir {
			dirs[name] = child
		}
	}
	for _, name := range names {
		child, ok := dirs[name]
		if !ok {
			continue
		}
		sub, err := openat(int(dir.Fd()), name, unix.O_DIRECTORY)
		if err == nil {
			err = p.walk(sub, child)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

// node adds the inode of name, unless an earlier name has.
func (p *packer) node(dirfd int, name string) (id flist.NodeID, isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, false, err
	}
	key := [2]uint64{st.Dev, st.Ino}
	if id, ok := p.nodes[key]; ok {
		return id, false, nil
	}
	n := flist.Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano()}
	if n.Xattrs, err = p.xattrs(dirfd, name); err != nil {
		return 0, false, err
	}
	switch n.Type() {
	case flist.ModeRegular:
		n.Size = st.Size
		n.Object, err = p.object(dirfd, name, st.Size)
	case flist.ModeSymlink:
		buf := make([]byte, st.Size+1)
		var size int
		size, err = unix.Readlinkat(dirfd, name, buf)
		n.Target, n.Size = buf[:size], int64(size)
	case flist.ModeBlock, flist.ModeChar:
		n.Rdev = st.Rdev
	}
	if err == nil {
		id, err = p.w.AddNode(n)
	}
	p.nodes[key] = id
	return id, n.Type() == flist.ModeDir, err
}

func (p *packer) xattrs(dirfd int, name string) (flist.XattrSetID, error) {
	path := name
	if dirfd != unix.AT_FDCWD {
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)
	}
	n, err := unix.Llistxattr(path, p.buf)
	if err != nil {
		return 0, err
	}
	var set []flist.Xattr
	for _, attr := range strings.FieldsFunc(string(p.buf[:n]), func(r rune) bool { return r == 0 }) {
		n, err := unix.Lgetxattr(path, attr, p.buf)
		if err != nil {
			return 0, fmt.Errorf("xattr %q: %w", attr, err)
		}
		set = append(set, flist.Xattr{Name: attr, Value: slices.Clone(p.buf[:n])})
	}
	return p.w.AddXattrs(set)
}

// object adds the content of a file; what its file system calls a hole is one.
func (p *packer) object(dirfd int, name string, size int64) (flist.ObjectID, error) {
	if size == 0 {
		return 0, nil
	}
	f, err := openat(dirfd, name, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	hash := chunk.NewHasher()
	var extents []flist.Extent
	for at := int64(0); at < size; {
		from, to, err := nextData(f, at, size)
		if err != nil {
			return 0, err
		}
		p.hashZeros(hash, from-at)
		for at = from; at < to; {
			piece := p.buf[:min(pieceSize-at%pieceSize, to-at)]
			if _, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(piece))), piece); err != nil {
				return 0, err
			}
			id, err := p.chunk(piece)
			if err != nil {
				return 0, err
			}
			_, _ = hash.Write(piece)
			extents = append(extents, flist.Extent{Offset: at, Chunk: id})
			at += int64(len(piece))
		}
	}
	return p.w.AddObject(flist.Object{Digest: hash.Sum(), Size: size}, extents)
}

func (p *packer) hashZeros(h *chunk.Hasher, n int64) {
	if n > 0 {
		clear(p.buf)
	}
	for ; n > 0; n -= int64(len(p.buf)) {
		_, _ = h.Write(p.buf[:min(n, int64(len(p.buf)))])
	}
}

// nextData returns the first range of data at or after at; an empty one at size if there is
// none.
func nextData(f *os.File, at, size int64) (from, to int64, err error) {
	from, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	return from, min(to, size), err
}

func (p *packer) chunk(plain []byte) (flist.ChunkID, error) {
	d := chunk.Sum(plain)
	if id, ok := p.w.FindChunk(d); ok {
		return id, nil
	}
	sealed := p.sealer.Seal(nil, d, plain)
	if p.blob != nil && p.blob.Size()+len(sealed.Data) > p.blobSize {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	if p.blob == nil {
		p.blob, p.id = blob.NewWriter(0), p.w.AddBlob()
	}
	return p.w.AddChunk(flist.Chunk{Ref: p.blob.Add(sealed), Blob: p.id})
}

func (p *packer) flush() error {
	if p.blob == nil {
		return nil
	}
	data, d, _ := p.blob.Finish()
	p.blob = nil
	p.w.SetBlob(p.id, flist.Blob{Digest: d, Size: int64(len(data))})
	return p.put.Put(p.t.Context(), d, data)
}

func openat(dirfd int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
