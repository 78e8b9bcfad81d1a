// Package commit makes a new image of a tree that was written to.
//
// A mounted image is made writable by overlayfs (mount/overlay). Commit packs what the overlay
// shows, so the kernel itself says what has become of names, links, whiteouts and renamed
// directories; only for the content of files does it look behind: a file that overlayfs has
// not copied up, or of which it has copied the metadata alone, has the content that the base
// says. It is taken over by digest, and nothing of it is read or fetched.
//
// # What tells that a file is untouched
//
// All of: the upper directory has nothing under its path; the base has a regular file where
// the directory of that path comes from (following the redirects of directories that were
// renamed); size, mode, owner and mtime are those of the base; and ctime equals mtime, as it
// does on every mount of an image and never on a file that was written to. The last one finds
// the names of a file that was changed under another of its names.
package commit

import (
	"context"
	"maps"
	"path/filepath"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/pack"
)

// Source is a tree that was written to.
type Source struct {
	Dir   string        // where the overlay is mounted
	Upper string        // the directory that it writes to
	Base  *flist.Reader // what it was made from
}

// Tree packs s into blobs at dst and the flist out, as [pack.Tree] does. The tree may be in
// use: files that change meanwhile are kept as they were read, and listed in the Result. The
// new flist has the properties of the base, those of o over them, and the base's digest as
// its parent; with nothing written, its tree digest is that of the base.
func Tree(ctx context.Context, s Source, dst pack.Dest, out string, o pack.Options) (pack.Result, error) {
	properties := s.Base.Properties()
	if o.Chunker == (chunk.Params{}) { // chunks are shared where files are cut alike
		if p, err := chunk.ParseParams(properties[flist.PropertyChunker]); err == nil {
			o.Chunker = p
		}
	}
	delete(properties, flist.PropertyChunker)
	maps.Copy(properties, o.Properties)
	properties[flist.PropertyParent] = s.Base.Digest().String()
	o.Properties = properties
	o.AllowChanged = true
	o.CacheDir = "" // inodes of an overlay do not outlive it
	dir, err := filepath.EvalSymlinks(s.Upper)
	if err != nil {
		return pack.Result{}, err
	}
	o.Known = newBase(s.Base, dir).content
	return pack.Tree(ctx, s.Dir, dst, out, o)
}
