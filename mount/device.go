package mount

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/mount/kernel"
)

// device is the content device of one flist, and the mounts that show it. Any of them can serve
// it; when that one ends, the next does.
type device struct {
	host   *Host
	digest flist.Digest
	name   string
	id     uint64 // inode, the same in every process
	size   int64  // in bytes
	source atomic.Pointer[kernelMount]

	mu     sync.Mutex
	mounts []*kernelMount
}

func newDevice(h *Host, digest flist.Digest, size int64) *device {
	// Numbers of two flists meet with a chance of 2^-63; the second is not mounted then.
	return &device{host: h, digest: digest, size: size, name: digest.String(), id: binary.BigEndian.Uint64(digest[:])>>1 | 1<<62}
}

// use adds a mount, which the device reads from if no other is there.
func (d *device) use(m *kernelMount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mounts = append(d.mounts, m)
	d.choose()
}

// drop takes a mount away. It reports whether others are left.
func (d *device) drop(m *kernelMount) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, v := range d.mounts {
		if v == m {
			d.mounts = append(d.mounts[:i:i], d.mounts[i+1:]...)
			break
		}
	}
	d.choose()
	return len(d.mounts) > 0
}

// choose makes the first mount that has an image the source. The caller holds mu.
func (d *device) choose() {
	var source *kernelMount
	for _, m := range d.mounts {
		if m.dev != nil {
			source = m
			break
		}
	}
	d.source.Store(source)
}

func (d *device) list() []*kernelMount {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*kernelMount(nil), d.mounts...)
}

// visible returns where a mount is that is in the mount table, and what.
func (d *device) visible() (dir string, fs kernel.Mounted, ok bool) {
	for _, m := range d.list() {
		if dir, fs, shown := m.place(); shown && !m.Detached() {
			return dir, fs, true
		}
	}
	return "", kernel.Mounted{}, false
}

// used reports whether any mount is in the mount table, or about to be.
func (d *device) used() bool {
	for _, m := range d.list() {
		if !m.Detached() {
			return true
		}
	}
	return false
}

// end ends all mounts that are left.
func (d *device) end() {
	for _, m := range d.list() {
		m.end()
	}
}

// readAt answers the kernel. A mount that has ended leaves it to the next.
func (d *device) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	for {
		m := d.source.Load()
		if m == nil {
			return 0, fmt.Errorf("content device %s: its image is not open: %w", d.name, errs.ErrUnavailable)
		}
		if m.users.enter() { // else it is not the source any more
			defer m.users.leave()
			return m.dev.ReadAt(ctx, p, off)
		}
	}
}
