package fusefs

import (
	"errors"
	"io"
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// Read answers with as many bytes as the file has in the range, or with an error: the
// kernel would take a short answer for the end of the file and show zeros after it.
func (t *tree) Read(interrupted <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	t.add(opRead)
	id, ok := t.node(&in.InHeader)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	size := t.nodes.Attr(id).Size
	if in.Offset >= uint64(size) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	off := int64(in.Offset)
	p = p[:min(int64(len(p)), size-off)]

	ctx := &readContext{interrupted: interrupted, pid: in.Pid, fd: t.fd}
	n, err := t.im.ReadAt(ctx, id, p, off)
	ctx.end()
	if n == len(p) && (err == nil || errors.Is(err, io.EOF)) {
		t.readBytes.Add(uint64(n))
		return fuse.ReadResultData(p), fuse.OK
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return nil, t.readError(id, off, len(p), err)
}

func (t *tree) readError(id flist.NodeID, off int64, n int, err error) fuse.Status {
	t.readErrors.Add(1)
	errno := t.errno(err)
	if errno == 0 || errno == syscall.ENOENT || errno == syscall.ENOSYS {
		errno = syscall.EIO // the file is there, and so is READ
	}
	// What image failed at, it has logged.
	if _, ok := errors.AsType[*image.ReadError](err); !ok && errno != syscall.EINTR {
		t.log.Warn("read failed", slog.Uint64("node", uint64(id)), slog.Int64("offset", off),
			slog.Int("bytes", n), slog.String("errno", errno.Error()), slog.Any("err", err))
	}
	return fuse.Status(errno)
}
