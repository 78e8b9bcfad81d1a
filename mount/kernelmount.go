package mount

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
)

// releaseTime is how long Unmount waits for the kernel to close the device after the last mount
// has gone; another mount namespace may keep the file system for ever.
const releaseTime = time.Second

// kernelMount is one mount in mode Kernel.
type kernelMount struct {
	host   *Host
	device *device
	dev    *image.Device // nil: the image could not be opened

	// Guarded by host.mu:
	dir   string         // where it was seen last
	fs    kernel.Mounted // what is mounted; ID is 0 before it was seen
	shown bool           // it is mounted, and fs is set

	gone chan struct{} // closed when it is not in the mount table any more
	done chan struct{} // closed when its image is not needed any more
	hide sync.Once     // closes gone

	users users // of the image
}

func newKernelMount(h *Host, d *device, im *image.Image, dir string) *kernelMount {
	m := &kernelMount{host: h, device: d, dir: dir, gone: make(chan struct{}), done: make(chan struct{})}
	if im != nil {
		m.dev = im.Device()
	}
	return m
}

// place returns where m is, and what is mounted there; false before it is.
func (m *kernelMount) place() (dir string, fs kernel.Mounted, shown bool) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return m.dir, m.fs, m.shown
}

// follow finds m in the mount table, wherever it was moved; byID is the table by numbers. Those are
// used again, but hardly for another mount of the same file system before anybody has looked. The
// caller holds host.mu.
func (m *kernelMount) follow(table []entry, byID map[uint64]entry) bool {
	e, ok := byID[m.fs.ID]
	if m.fs.ID == 0 { // taken over, and not seen yet: the one on top at its place
		for _, v := range table {
			if v.dir == m.dir && v.dev == m.fs.Dev {
				e, ok = v, true
			}
		}
	}
	if !ok || e.dev != m.fs.Dev {
		return false
	}
	m.fs.ID, m.dir = e.id, e.dir
	return true
}

// hidden notes that m is not in the mount table any more. If others show the same device, m has
// ended; else its image is needed until the kernel closes the device.
func (m *kernelMount) hidden() {
	m.hide.Do(func() { close(m.gone) })
	for _, other := range m.device.list() {
		if other != m && !other.Detached() {
			m.end()
			return
		}
	}
}

// end lets go of the device. Done is closed when the last read is answered.
func (m *kernelMount) end() {
	m.device.drop(m)
	m.hide.Do(func() { close(m.gone) })
	m.users.end(func() { close(m.done) })
}

func (m *kernelMount) Dir() string {
	dir, _, _ := m.place()
	return dir
}

func (m *kernelMount) Detached() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

func (m *kernelMount) Stats() fusefs.Stats {
	s := fusefs.Stats{Requests: map[string]uint64{}}
	var reads uint64
	if reads, s.ReadBytes, s.ReadErrors = m.host.content.DeviceStats(m.device.name); reads > 0 {
		s.Requests["read"] = reads
	}
	return s
}

func (m *kernelMount) Done() <-chan struct{} { return m.done }

func (m *kernelMount) Wait() { <-m.done }

func (m *kernelMount) Unmount(ctx context.Context) error {
	if err := m.unmount(ctx, false); err != nil {
		return err
	}
	timer := time.NewTimer(releaseTime)
	defer timer.Stop()
	select {
	case <-m.done:
	case <-timer.C: // somebody has it still, out of our sight
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", m.Dir(), ctx.Err())
	}
	return nil
}

func (m *kernelMount) UnmountLazy(ctx context.Context) error { return m.unmount(ctx, true) }

func (m *kernelMount) unmount(ctx context.Context, lazy bool) error {
	if m.host.check(); m.Detached() {
		return nil
	}
	dir, fs, _ := m.place()
	if on, err := mountOf(dir); err == nil && !on(entry{id: fs.ID, dev: fs.Dev}) {
		return fmt.Errorf("unmount %s: not on top there any more, but still in use: %w", dir, unix.EBUSY)
	}
	if err := fusefs.Unmount(ctx, dir, lazy); err != nil {
		return err
	}
	m.host.check()
	return nil
}
