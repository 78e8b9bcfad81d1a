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
	dir    string
	fs     kernel.Mounted
	shown  bool // guarded by host.mu: it is mounted, and fs is set

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

func (m *kernelMount) isShown() bool {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return m.shown
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

func (m *kernelMount) Dir() string { return m.dir }

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
		return fmt.Errorf("unmount %s: %w", m.dir, ctx.Err())
	}
	return nil
}

func (m *kernelMount) UnmountLazy(ctx context.Context) error { return m.unmount(ctx, true) }

func (m *kernelMount) unmount(ctx context.Context, lazy bool) error {
	if m.Detached() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(m.dir, &st); err == nil && st.Dev != m.fs.Dev {
		if m.host.check(); m.Detached() {
			return nil
		}
		return fmt.Errorf("unmount %s: not on top there any more, but still in use: %w", m.dir, unix.EBUSY)
	}
	if err := fusefs.Unmount(ctx, m.dir, lazy); err != nil {
		return err
	}
	m.host.check()
	return nil
}
