package fusefs

import "github.com/hanwen/go-fuse/v2/fuse"

// readOnly refuses every change. The kernel does so by itself on a read-only mount, but
// root may remount it.
type readOnly struct {
	fuse.RawFileSystem // for the few requests that have another default
	counters
}

func (r *readOnly) refuse() fuse.Status {
	r.add(opOther)
	return fuse.EROFS
}

func (r *readOnly) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return r.refuse()
}

func (r *readOnly) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) {
	return 0, r.refuse()
}

func (r *readOnly) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, r.refuse()
}

func (r *readOnly) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status {
	return r.refuse()
}

func (r *readOnly) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, r.refuse()
}

func (r *readOnly) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return r.refuse()
}

func (r *readOnly) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status {
	return r.refuse()
}
