package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// ContentSubtype is what follows "fuse." in the type of a [Content] in the mount table.
const ContentSubtype = "zosfs-content"

// A ContentDevice is one content device: bytes that never change.
type ContentDevice struct {
	Name string // of its file; not empty, without slashes
	ID   uint64 // of its inode: the same for the same Name in every process; more than 1
	Size int64  // bytes
	// ReadAt fills p, which lies inside Size, or fails. It is called from many goroutines.
	ReadAt func(ctx context.Context, p []byte, off int64) (int, error)
	// Open tells that the kernel has the device open already, as after a take-over.
	Open bool
	// Released, if not nil, is called when the last opener has closed the device. It must not
	// wait for anything.
	Released func()
}

// A Connection is what one [Content] leaves to the one after it: with it another process can
// answer the requests of the same mount, also those that were under way. Both must have the
// same [Options]; a device must have the same Name, ID, Size and bytes.
type Connection struct {
	FD    int    // of /dev/fuse
	Init  []byte // the kernel's first message
	Reply []byte // what was answered
}

// A Content serves content devices: one FUSE mount of a directory with a file for each. The
// kernel opens such a file when a file system is mounted over it, and then sends READ alone, at
// the first touch of each page; nothing is kept per open file but how many there are.
type Content struct {
	dir  string
	log  *slog.Logger
	fs   *contentFS
	conn Connection
	loop *loop
	done chan struct{} // closed when the last request is answered

	mu        sync.Mutex
	serving   bool // Serve was called
	ended     bool // the connection has
	abandoned bool
}

// MountContent mounts an empty Content at dir, which needs root, and serves it until
// [Content.Unmount].
func MountContent(dir string, o Options) (*Content, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	c := newContent(dir, o)
	fd, err := attachContent(c.dir, o.withDefaults())
	if err != nil {
		return nil, err
	}
	c.conn.FD = fd
	if err := c.begin(); err != nil {
		return nil, errors.Join(err, unix.Close(fd), detach(context.Background(), c.dir, true))
	}
	c.Serve()
	if err := stopPolling(c.dir); err != nil { // loop devices are made of files that we open
		return nil, errors.Join(err, c.Unmount(context.Background(), true))
	}
	return c, nil
}

// ResumeContent takes over the Content at dir from a process that has ended or is about to. The
// descriptor belongs to the Content unless there is an error. The caller adds the devices that
// the kernel knows, then calls [Content.Serve]; until then requests wait.
func ResumeContent(dir string, conn Connection, o Options) (*Content, error) {
	// dir itself is not looked at: it is we who would answer.
	parent, err := resolve(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	c := newContent(filepath.Join(parent, filepath.Base(dir)), o)
	c.conn = conn
	if err := c.resume(); err != nil {
		return nil, err
	}
	return c, nil
}

func newContent(dir string, o Options) *Content {
	o = o.withDefaults()
	files := &contentFS{errno: o.Errno, log: o.Log, byID: map[uint64]*device{}, byName: map[string]*device{}}
	files.RawFileSystem = fuse.NewDefaultRawFileSystem()
	return &Content{dir: dir, log: o.Log, fs: files, done: make(chan struct{})}
}

func attachContent(dir string, o Options) (int, error) {
	fd, err := unix.Open(devFuse, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", devFuse, err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,max_read=%d,default_permissions", fd, unix.S_IFDIR, maxRead)
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(o.Source, dir, "fuse."+ContentSubtype, flags, data); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mount fuse at %s: %w", dir, err)
	}
	return fd, nil
}

// Serve begins to answer, once.
func (c *Content) Serve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = true
	if err := setDrained(c.conn.FD, false); err != nil && !c.Resends() {
		c.log.Error("should this process be killed, requests that it has taken wait for ever", slog.Any("err", err))
	}
	go func() {
		defer close(c.done)
		c.loop.run()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.abandoned {
			c.ended = true
			c.fs.releaseAll()
			_ = unix.Close(c.conn.FD)
		}
	}()
}

// Dir returns the directory of the devices, absolute and without symlinks.
func (c *Content) Dir() string { return c.dir }

// Connection returns what another process needs to go on. The descriptor stays c's, which closes
// it when the mount has ended.
func (c *Content) Connection() Connection { return c.conn }

// Stats returns what the kernel asked for so far, from all devices.
func (c *Content) Stats() Stats { return c.fs.stats() }

// Add adds a device. One that is there already, or whose ID another has, is fs.ErrExist.
func (c *Content) Add(d ContentDevice) error {
	if d.ID <= fuse.FUSE_ROOT_ID || d.Size < 0 || d.Name == "" || strings.ContainsAny(d.Name, "/\x00") {
		return fmt.Errorf("content device %q, inode %d, %d bytes: %w", d.Name, d.ID, d.Size, fs.ErrInvalid)
	}
	return c.fs.add(d)
}

// Remove takes a device away. Who has it open gets errors from then on.
func (c *Content) Remove(name string) { c.fs.remove(name) }

// Opens returns how often the kernel has a device open; 0 where there is none.
func (c *Content) Opens(name string) int {
	d := c.fs.named(name)
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opens
}

// DeviceStats returns what was read from a device; zeros where there is none.
func (c *Content) DeviceStats(name string) (reads, readBytes, readErrors uint64) {
	d := c.fs.named(name)
	if d == nil {
		return 0, 0, 0
	}
	return d.counted.ops[opRead].Load(), d.counted.readBytes.Load(), d.counted.readErrors.Load()
}

// Unmount ends the mount and waits for the last answer. While the kernel has a device open it
// fails with unix.EBUSY; lazy takes the directory out of sight, and it is served until then.
func (c *Content) Unmount(ctx context.Context, lazy bool) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	err := Unmount(ctx, c.dir, lazy)
	if err != nil && !errors.Is(err, unix.EINVAL) { // which says that somebody else did it
		return err
	}
	if lazy {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", c.dir, ctx.Err())
	}
}

// Abandon takes no requests any more: they wait for the process that takes over. It is for a
// process that is about to end, with which the descriptor goes.
//
// Where the kernel sends requests again ([Content.Resends]) those under way wait, too: what is
// answered from now on goes nowhere. Else Abandon returns when they are answered; what is not
// when ctx ends gets an error.
func (c *Content) Abandon(ctx context.Context) error {
	c.mu.Lock()
	ended, serving := c.ended, c.serving
	c.abandoned = !ended
	c.mu.Unlock()
	switch {
	case ended:
		return nil
	case c.Resends():
		c.loop.silent.Store(true)
		return c.loop.stop()
	}
	if err := c.loop.stop(); err != nil {
		return err
	}
	if serving {
		select {
		case <-c.done:
		case <-ctx.Done():
			c.log.Warn("reads under way fail, for they take longer than this process can go on")
			c.loop.fail()
		}
	}
	return setDrained(c.conn.FD, true)
}

// Done returns a channel that is closed when the mount has ended and no request is being
// answered any more.
func (c *Content) Done() <-chan struct{} { return c.done }

// contentFS answers the requests of the kernel.
type contentFS struct {
	readOnly
	errno func(error) syscall.Errno
	log   *slog.Logger
	fd    int // of the connection

	mu     sync.RWMutex
	byID   map[uint64]*device
	byName map[string]*device
}

// device is one device and who has it open.
type device struct {
	ContentDevice
	counted counters

	mu    sync.Mutex
	opens int
}

func (c *contentFS) count(o op) { c.counters.add(o) }

func (c *contentFS) String() string { return "zosfs-content" }

func (c *contentFS) add(d ContentDevice) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[d.ID] != nil || c.byName[d.Name] != nil {
		return fmt.Errorf("content device %s: %w", d.Name, fs.ErrExist)
	}
	v := &device{ContentDevice: d}
	if d.Open {
		v.opens = 1
	}
	c.byID[d.ID], c.byName[d.Name] = v, v
	return nil
}

func (c *contentFS) remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.byName[name]; d != nil {
		delete(c.byID, d.ID)
		delete(c.byName, name)
	}
}

func (c *contentFS) named(name string) *device {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byName[name]
}

func (c *contentFS) node(id uint64) *device {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

func (d *device) attr(out *fuse.Attr) {
	*out = fuse.Attr{Ino: d.ID, Size: uint64(d.Size), Blocks: uint64(d.Size+511) / 512, Mode: unix.S_IFREG | 0o400, Nlink: 1, Blksize: blockSize}
}

func rootAttr(out *fuse.Attr) {
	*out = fuse.Attr{Ino: fuse.FUSE_ROOT_ID, Mode: unix.S_IFDIR | 0o500, Nlink: 2, Blksize: blockSize}
}

// Lookup finds a device. Nothing is cached: devices come and go.
func (c *contentFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.count(opLookup)
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return fuse.ENOTDIR
	}
	d := c.named(name)
	if d == nil {
		return fuse.ENOENT
	}
	out.NodeId = d.ID
	d.attr(&out.Attr)
	return fuse.OK
}

func (c *contentFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.count(opGetAttr)
	if in.NodeId == fuse.FUSE_ROOT_ID {
		rootAttr(&out.Attr)
		return fuse.OK
	}
	d := c.node(in.NodeId)
	if d == nil {
		return fuse.Status(syscall.ESTALE)
	}
	out.AttrValid = forever
	d.attr(&out.Attr)
	return fuse.OK
}

// Open keeps the page cache out of it: the pages of the file system above are the cache.
func (c *contentFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.count(opOpen)
	d := c.node(in.NodeId)
	if d == nil {
		return fuse.Status(syscall.ESTALE)
	}
	d.mu.Lock()
	d.opens++
	d.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

// Release notes the end of an opener.
func (c *contentFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	d := c.node(in.NodeId)
	if d == nil {
		return
	}
	d.mu.Lock()
	d.opens--
	last := d.opens <= 0
	d.mu.Unlock()
	if last && d.Released != nil {
		d.Released()
	}
}

// releaseAll notes that the connection has ended. The kernel may not have said who has closed
// what: where the mount is out of sight, its last file ends it.
func (c *contentFS) releaseAll() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, d := range c.byID {
		d.mu.Lock()
		open := d.opens > 0
		d.opens = 0
		d.mu.Unlock()
		if open && d.Released != nil {
			d.Released()
		}
	}
}

// Read answers whole or with an error: the kernel would take a short answer for the end.
func (c *contentFS) Read(interrupted <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	c.count(opRead)
	d := c.node(in.NodeId)
	if d == nil {
		return nil, fuse.EIO
	}
	d.counted.add(opRead)
	if in.Offset >= uint64(d.Size) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	off := int64(in.Offset)
	p = p[:min(int64(len(p)), d.Size-off)]
	ctx := &readContext{interrupted: interrupted, pid: in.Pid, fd: c.fd}
	failed := true // also when it panics
	defer func() {
		ctx.end()
		if failed {
			c.readErrors.Add(1)
			d.counted.readErrors.Add(1)
		}
	}()
	n, err := d.ReadAt(ctx, p, off)
	if n == len(p) && (err == nil || errors.Is(err, io.EOF)) {
		failed = false
		c.readBytes.Add(uint64(n))
		d.counted.readBytes.Add(uint64(n))
		return filled(p), fuse.OK
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	c.log.Debug("read failed", slog.String("device", d.Name), slog.Int64("offset", off), slog.Int("bytes", n), slog.Any("err", err))
	errno := c.errno(err)
	if errno != syscall.EINTR {
		errno = syscall.EIO // what a disk says
	}
	return nil, fuse.Status(errno)
}

// filled is what was read to where the answer is sent from, so that it need not be copied.
type filled []byte

func (f filled) Bytes([]byte) ([]byte, fuse.Status) { return f, fuse.OK }

func (f filled) Size() int { return len(f) }

func (f filled) Done() {}

// ReadDir lists the devices by name.
func (c *contentFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.count(opReadDir)
	if in.NodeId != fuse.FUSE_ROOT_ID {
		return fuse.ENOTDIR
	}
	list := []fuse.DirEntry{
		{Name: ".", Ino: fuse.FUSE_ROOT_ID, Mode: unix.S_IFDIR},
		{Name: "..", Ino: fuse.FUSE_ROOT_ID, Mode: unix.S_IFDIR},
	}
	c.mu.RLock()
	for _, d := range c.byName {
		list = append(list, fuse.DirEntry{Name: d.Name, Ino: d.ID, Mode: unix.S_IFREG})
	}
	c.mu.RUnlock()
	slices.SortFunc(list, func(a, b fuse.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	for i := int(min(in.Offset, uint64(len(list)))); i < len(list); i++ {
		list[i].Off = uint64(i) + 1
		if !out.AddDirEntry(list[i]) {
			break
		}
	}
	return fuse.OK
}

func (c *contentFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	c.count(opStatFs)
	*out = fuse.StatfsOut{Bsize: blockSize, Frsize: blockSize, NameLen: 255}
	return fuse.OK
}

// Flush is declined once for all: there is nothing to flush.
func (c *contentFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status {
	c.count(opFlush)
	return fuse.ENOSYS
}
