package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
)

// HostOptions say where a [Host] has its files.
type HostOptions struct {
	Content string // directory to mount the content devices at; made where it is not there
	Images  string // directory of the metadata images; made likewise
	Log     *slog.Logger
	Rung    kernel.Rung // "" is the best that works
}

// A Host is what the mounts of one process in mode [Kernel] share: one FUSE mount of content
// devices, and a directory of metadata images. Images of one flist have one device and one
// superblock, and so one page cache.
//
// A process that ends without [Host.Close] leaves its mounts to another that has its
// [Host.Connection]; without one, what is in the page cache goes on working and the rest is EIO.
type Host struct {
	o       HostOptions
	content *fusefs.Content
	watch   *tableWatch

	mounting sync.Mutex // held while something is mounted; before mu

	mu      sync.Mutex
	devices map[flist.Digest]*device
}

// NewHost mounts the content devices. It needs root and FUSE. The caller calls Close.
func NewHost(o HostOptions) (*Host, error) {
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(o.Content, 0o700); err == nil {
		h.content, err = fusefs.MountContent(o.Content, h.contentOptions())
	}
	if err != nil {
		h.watch.close()
		return nil, err
	}
	return h, nil
}

// ResumeHost takes over the content devices of a process that has ended; the descriptor belongs
// to the Host unless there is an error. The caller calls [Host.Adopt] for each of its mounts and
// then [Host.Serve]; until then reads wait.
func ResumeHost(o HostOptions, conn fusefs.Connection) (*Host, error) {
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	if h.content, err = fusefs.ResumeContent(o.Content, conn, h.contentOptions()); err != nil {
		h.watch.close()
		return nil, err
	}
	return h, nil
}

// newHost returns a Host without content devices, which watches the mount table.
func newHost(o HostOptions) (*Host, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("mode kernel needs root: %w", fs.ErrPermission)
	}
	if err := os.MkdirAll(o.Images, 0o700); err != nil {
		return nil, err
	}
	h := &Host{o: o, devices: map[flist.Digest]*device{}}
	var err error
	if h.watch, err = watchTable(h.check); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Host) contentOptions() fusefs.Options {
	return fusefs.Options{Source: "zosfs", Errno: Errno, Log: h.o.Log}
}

// Serve begins to answer reads of mounts that were taken over.
func (h *Host) Serve() { h.content.Serve() }

// Stats returns what the kernel asked for of all devices so far, also of those that have ended.
func (h *Host) Stats() fusefs.Stats { return h.content.Stats() }

// Connection returns what another process needs to take over.
func (h *Host) Connection() fusefs.Connection { return h.content.Connection() }

// Close ends the Host, whose mounts have ended. If some have not, their devices are out of sight
// and fail once the process ends.
func (h *Host) Close(ctx context.Context) error {
	err := h.content.Unmount(ctx, false)
	if errors.Is(err, unix.EBUSY) {
		err = errors.Join(err, h.content.Unmount(ctx, true))
	}
	h.watch.close()
	return err
}

// Abandon stops answering without a word: requests wait for the process that takes over. Those
// under way are answered first where the kernel could not send them again; what is not when ctx
// ends fails. The Host must not be used afterwards.
func (h *Host) Abandon(ctx context.Context) {
	if err := h.content.Abandon(ctx); err != nil {
		h.o.Log.Error("the mounts die, as requests under way cannot be left to the next process", "error", err)
	}
	h.watch.close()
}

// Notes returns what a person should know.
func (h *Host) Notes() []string {
	if h.content.Resends() {
		return nil
	}
	return []string{"mounts do not survive a kill of the service, only its end in an orderly way: to take over what was under way needs Linux 6.9"}
}

// mount shows im at dir, which was checked.
func (h *Host) mount(im *image.Image, dir string) (*kernelMount, error) {
	h.mounting.Lock()
	defer h.mounting.Unlock()
	path, size, err := h.image(im)
	if err != nil {
		return nil, err
	}
	d, err := h.device(im.Flist().Digest(), size, false)
	if err != nil {
		return nil, err
	}
	m := newKernelMount(h, d, im, dir)
	d.use(m) // from here on reads are answered
	shown, err := h.show(d, path, dir)
	if err != nil {
		m.end()
		h.check() // the device may have been for this mount alone
		return nil, err
	}
	if m.users.enter() {
		go func() { // ends soon
			defer m.users.leave()
			_, _ = m.dev.Size() // so that the first read need not wait for it
		}()
	}
	h.mu.Lock()
	m.fs, m.shown = shown, true
	h.mu.Unlock()
	h.check() // whoever has unmounted it already
	return m, nil
}

// show mounts the device d at dir, beside another mount of it if there is one.
func (h *Host) show(d *device, path, dir string) (kernel.Mounted, error) {
	h.check() // the other may just have been moved
	if at, other, ok := d.visible(); ok && h.o.Rung == "" {
		fs, err := kernel.Clone(at, other.Dev, dir)
		if err == nil {
			fs.Rung = other.Rung
			return fs, nil
		}
		h.o.Log.Debug("a mount is not shared", "error", err)
	}
	return kernel.Mount(kernel.Source{Image: path, Device: filepath.Join(h.content.Dir(), d.name)}, dir, h.o.Rung)
}

// Adopt takes over the mount of im at dir whose file system has st_dev dev, of the process
// before; im may be nil where it could not be opened: reads fail then. fs.ErrNotExist says that
// it is not mounted there any more, yet the Mounted is good: programs may use it still.
func (h *Host) Adopt(im *image.Image, digest flist.Digest, size int64, dir string, dev uint64, rung kernel.Rung) (*Mounted, error) {
	h.mounting.Lock()
	defer h.mounting.Unlock()
	d, err := h.device(digest, size, true)
	if err != nil {
		return nil, err
	}
	m := newKernelMount(h, d, im, dir)
	d.use(m)
	h.mu.Lock()
	m.fs, m.shown = kernel.Mounted{Dev: dev, Rung: rung}, true
	h.mu.Unlock()
	h.check()
	if m.Detached() {
		return &Mounted{served: m, mode: Kernel}, fmt.Errorf("mount at %s: %w", dir, fs.ErrNotExist)
	}
	return &Mounted{served: m, mode: Kernel}, nil
}

// device returns the device of an flist, and makes it where it is not there. open says that the
// kernel has it open already.
func (h *Host) device(digest flist.Digest, size int64, open bool) (*device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.devices[digest]; d != nil {
		return d, nil
	}
	d := newDevice(h, digest, max(size, image.DeviceBlock))
	err := h.content.Add(fusefs.ContentDevice{
		Name: d.name, ID: d.id, Size: d.size, ReadAt: d.readAt, Open: open,
		Released: func() { go h.check() }, // ends soon
	})
	if err != nil {
		return nil, err
	}
	h.devices[digest] = d
	return d, nil
}

// Refresh finds out where the mounts are. By itself the Host learns when one is made, moved or
// unmounted, but not when a directory above one is renamed: the kernel does not tell.
func (h *Host) Refresh() { h.check() }

// check finds out where the mounts are, and which are not in the mount table any more.
func (h *Host) check() {
	h.mu.Lock()
	defer h.mu.Unlock()
	table, err := readTable()
	if err != nil {
		h.o.Log.Warn("cannot tell which mounts have ended", "error", err)
		return
	}
	byID := make(map[uint64]entry, len(table))
	for _, e := range table {
		byID[e.id] = e
	}
	for _, d := range h.devices {
		for _, m := range d.list() {
			if m.shown && !m.follow(table, byID) {
				m.hidden()
			}
		}
		h.settle(d)
	}
}

// settle ends d when the kernel has closed it and nothing shows it. The caller holds mu.
func (h *Host) settle(d *device) {
	if h.devices[d.digest] != d || d.used() || h.content.Opens(d.name) > 0 {
		return
	}
	delete(h.devices, d.digest)
	h.content.Remove(d.name)
	d.end()
}

// Sizes of the metadata images that are kept, in bytes, apart from those in use.
const maxImages = 2 << 30

// image returns the metadata image of im, which is made where it is not kept, and the size of
// its content device.
func (h *Host) image(im *image.Image) (path string, size int64, err error) {
	r := im.Flist()
	path = filepath.Join(h.o.Images, r.Digest().String()+kernel.Suffix)
	if size, err = kernel.CheckImage(path); err == nil {
		touch(path)
		return path, size, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		h.o.Log.Info("a metadata image is made anew", "error", err)
	}
	dev := im.Device()
	if err := kernel.WriteImage(path, r, dev); err != nil {
		return "", 0, err
	}
	h.trim(maxImages)
	size, err = dev.Size()
	return path, size, err
}
