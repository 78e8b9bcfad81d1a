package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"sync/atomic"

	"github.com/zosfs/zosfs/flist"
)

var (
	errNotDir = errors.New("not a directory")
	errIsDir  = errors.New("is a directory")
)

// newFile opens a node under the path name.
func newFile(im *Image, name string, id flist.NodeID) fs.File {
	h := &handle{im: im, name: name, id: id, info: info{path.Base(name), im.Tree().Attr(id)}}
	if h.info.IsDir() {
		return &directory{h}
	}
	return &file{h}
}

// handle is what open files and directories have in common. As usual with io.Reader, Read,
// ReadDir and Seek move a position and are not safe for concurrent use; the rest is.
type handle struct {
	im   *Image
	name string
	id   flist.NodeID
	info info

	pos    int64 // in the content, or among the entries
	closed atomic.Bool
}

func (h *handle) Stat() (fs.FileInfo, error) {
	if h.closed.Load() {
		return nil, h.fail("stat", fs.ErrClosed)
	}
	return h.info, nil
}

func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return h.fail("close", fs.ErrClosed)
	}
	return nil
}

func (h *handle) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.name, Err: err}
}

// file is an open node that is no directory; where it is no regular file, reading fails.
type file struct{ *handle }

var _ interface {
	fs.File
	io.ReaderAt
	io.Seeker
} = (*file)(nil)

// Read implements [fs.File].
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, f.fail("read", fs.ErrClosed)
	}
	// io/fs has no context; the Image's deadline and its Close end the wait.
	n, err := f.im.ReadAt(context.Background(), f.id, p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.fail("read", err)
	}
	return n, err
}

// Seek implements [io.Seeker].
func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch {
	case f.closed.Load():
		return 0, f.fail("seek", fs.ErrClosed)
	case whence == io.SeekCurrent:
		offset += f.pos
	case whence == io.SeekEnd:
		offset += f.info.attr.Size
	case whence != io.SeekStart:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.pos = offset
	return offset, nil
}

// directory is an open directory.
type directory struct{ *handle }

var _ fs.ReadDirFile = (*directory)(nil)

// Read implements [fs.File]; it always fails.
func (d *directory) Read([]byte) (int, error) { return 0, d.fail("read", errIsDir) }

// ReadDir implements [fs.ReadDirFile].
func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed.Load() {
		return nil, d.fail("readdir", fs.ErrClosed)
	}
	from, to := int(d.pos), d.im.Tree().DirLen(d.id)
	if n > 0 {
		if from == to {
			return nil, io.EOF
		}
		to = min(to, from+n)
	}
	d.pos = int64(to)
	return listDir(d.im.Tree(), d.id, from, to), nil
}
