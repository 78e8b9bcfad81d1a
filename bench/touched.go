package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
)

// touchedBytes returns the sealed size of all chunks of which the page cache holds a page
// through the mount at root: what must have been fetched, counted without asking whoever
// fetched it. It reads nothing.
func touchedBytes(root string, r *flist.Reader) (int64, error) {
	t := toucher{r: r, seen: make(map[flist.ChunkID]bool)}
	if err := t.dir(root, flist.Root); err != nil {
		return 0, err
	}
	var sum int64
	for id := range t.seen {
		sum += int64(r.Chunk(id).Stored)
	}
	return sum, nil
}

type toucher struct {
	r    *flist.Reader
	seen map[flist.ChunkID]bool
}

func (t *toucher) dir(path string, id flist.NodeID) error {
	for e := range t.r.Dir(id) {
		n := t.r.Node(e.Node)
		name := filepath.Join(path, string(e.Name))
		var err error
		switch {
		case n.Type() == syscall.S_IFDIR:
			err = t.dir(name, e.Node)
		case n.Type() == syscall.S_IFREG && n.Size > 0:
			err = t.file(name, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *toucher) file(path string, n flist.Node) error {
	resident, err := residentPages(path, int(n.Size))
	if err != nil {
		return err
	}
	page := int64(os.Getpagesize())
	for x := range t.r.Extents(n.Object) {
		end := x.Offset + int64(t.r.Chunk(x.Chunk).Size)
		for i := x.Offset / page; i*page < end; i++ {
			if resident[i]&1 != 0 {
				t.seen[x.Chunk] = true
				break
			}
		}
	}
	return nil
}

// residentPages asks mincore(2) which pages of a file are in the page cache: bit 0 of each
// byte.
func residentPages(path string, size int) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	defer func() { err = errors.Join(err, unix.Munmap(p)) }()
	pages := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		return nil, &os.PathError{Op: "mincore", Path: path, Err: errno}
	}
	return pages, nil
}
