package image

import (
	"context"
	"io/fs"
	"path"
	"time"

	"github.com/zosfs/zosfs/flist"
)

// FS returns the image as a file system of package io/fs. Paths follow symlinks inside the
// image. Besides fs.FS it implements fs.ReadDirFS, fs.ReadFileFS, fs.StatFS and
// fs.ReadLinkFS; open files implement io.ReaderAt and io.Seeker, open directories
// fs.ReadDirFile; FileInfo.Sys returns an [Attr]. Names that are not UTF-8 are listed as they
// are, but io/fs cannot open them: see [Tree.Resolve] and [Image.ReadAt].
func (im *Image) FS() fs.FS { return fileSystem{im} }

var _ interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
	fs.ReadLinkFS
} = fileSystem{}

type fileSystem struct{ im *Image }

func (f fileSystem) resolve(op, name string, how follow) (flist.NodeID, error) {
	if !fs.ValidPath(name) {
		return 0, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return f.im.Tree().resolveAs(op, name, how)
}

// Open implements [fs.FS].
func (f fileSystem) Open(name string) (fs.File, error) {
	id, err := f.resolve("open", name, followAll)
	if err != nil {
		return nil, err
	}
	return newFile(f.im, name, id), nil
}

// Stat implements [fs.StatFS].
func (f fileSystem) Stat(name string) (fs.FileInfo, error) {
	return f.stat("stat", name, followAll)
}

// Lstat implements [fs.ReadLinkFS].
func (f fileSystem) Lstat(name string) (fs.FileInfo, error) {
	return f.stat("lstat", name, followOnWay)
}

func (f fileSystem) stat(op, name string, how follow) (fs.FileInfo, error) {
	id, err := f.resolve(op, name, how)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), f.im.Tree().Attr(id)}, nil
}

// ReadLink implements [fs.ReadLinkFS].
func (f fileSystem) ReadLink(name string) (string, error) {
	id, err := f.resolve("readlink", name, followOnWay)
	if err != nil {
		return "", err
	}
	if !f.im.Tree().isType(id, flist.ModeSymlink) {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return f.im.Tree().Target(id), nil
}

// ReadDir implements [fs.ReadDirFS].
func (f fileSystem) ReadDir(name string) ([]fs.DirEntry, error) {
	id, err := f.resolve("readdir", name, followAll)
	if err != nil {
		return nil, err
	}
	if !f.im.Tree().isType(id, flist.ModeDir) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errNotDir}
	}
	return listDir(f.im.Tree(), id, 0, f.im.Tree().DirLen(id)), nil
}

// ReadFile implements [fs.ReadFileFS].
func (f fileSystem) ReadFile(name string) ([]byte, error) {
	id, err := f.resolve("read", name, followAll)
	if err != nil {
		return nil, err
	}
	p := make([]byte, f.im.Tree().Attr(id).Size)
	if _, err := f.im.ReadAt(context.Background(), id, p, 0); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return p, nil
}

// listDir returns the entries [from, to) of dir.
func listDir(t *Tree, dir flist.NodeID, from, to int) []fs.DirEntry {
	out := make([]fs.DirEntry, 0, to-from)
	for i := from; i < to; i++ {
		name, id := t.DirEntry(dir, i)
		out = append(out, info{name, t.Attr(id)})
	}
	return out
}

// info is both [fs.FileInfo] and [fs.DirEntry].
type info struct {
	name string
	attr Attr
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.attr.Size }
func (i info) Mode() fs.FileMode          { return i.attr.FileMode() }
func (i info) ModTime() time.Time         { return time.Unix(0, i.attr.MTime) }
func (i info) IsDir() bool                { return i.Mode().IsDir() }
func (i info) Sys() any                   { return i.attr }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }
