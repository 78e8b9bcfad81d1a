package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"

	"github.com/zosfs/zosfs/flist"
)

// DeviceBlock is the unit of addresses on a [Device], in bytes.
const DeviceBlock = 4096

// ErrTooLarge says that the content of an image does not fit a [Device], which has 2^32 - 1
// blocks. It is errors.ErrUnsupported.
var ErrTooLarge = fmt.Errorf("content of more than 16 TiB: %w", errors.ErrUnsupported)

// A Device is the content of an image as one run of bytes: the objects in the order of their
// ids, each from a multiple of [DeviceBlock] on, with zeros up to the next. So an address
// depends on the flist alone. It takes 4 bytes an object, from its first use on. It is safe for
// concurrent use and lives as long as its Image.
type Device struct {
	im     *Image
	blocks func() ([]uint32, error) // where each object begins, by id less 1, and the end
}

// Device returns the content of im as a Device.
func (im *Image) Device() *Device {
	return &Device{im, sync.OnceValues(func() ([]uint32, error) { return layOut(im.r) })}
}

func layOut(r *flist.Reader) ([]uint32, error) {
	blocks := make([]uint32, 0, r.Counts().Objects+1)
	at := int64(0)
	for _, o := range r.Objects() {
		blocks = append(blocks, uint32(at))
		if at += (o.Size-1)/DeviceBlock + 1; at >= math.MaxUint32 { // an object is not empty
			return nil, ErrTooLarge
		}
	}
	return append(blocks, uint32(at)), r.Release()
}

// Size returns the size of the device in bytes, a multiple of [DeviceBlock]. One that cannot be
// is [ErrTooLarge], here and below.
func (d *Device) Size() (int64, error) {
	blocks, err := d.blocks()
	if err != nil {
		return 0, err
	}
	return int64(blocks[len(blocks)-1]) * DeviceBlock, nil
}

// Addr returns where the object begins, in bytes.
func (d *Device) Addr(id flist.ObjectID) (int64, error) {
	blocks, err := d.blocks()
	if err != nil {
		return 0, err
	}
	return int64(blocks[id-1]) * DeviceBlock, nil
}

// ReadAt fills p from the address off on, as [Image.ReadAt] does with a file; holes, and what
// lies between objects, are zeros.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	blocks, err := d.blocks()
	if err != nil {
		return 0, err
	}
	size := int64(blocks[len(blocks)-1]) * DeviceBlock
	var eof error
	if off < 0 || int64(len(p)) > size-off {
		p, eof = p[:min(int64(len(p)), max(0, size-off))], io.EOF
	}
	d.im.stats.reads.Add(1)
	n := 0
	for n < len(p) {
		at := off + int64(n)
		i := sort.Search(len(blocks), func(i int) bool { return int64(blocks[i])*DeviceBlock > at }) // id of the object that at lies in
		end := int64(blocks[i]) * DeviceBlock
		part := p[n:min(int64(len(p)), int64(n)+end-at, int64(n)+maxSpan)]
		if err := d.read(ctx, flist.ObjectID(i), part, at-int64(blocks[i-1])*DeviceBlock); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, eof
}

// read fills p from off on in the object, or behind its end.
func (d *Device) read(ctx context.Context, id flist.ObjectID, p []byte, off int64) error {
	n := int(min(int64(len(p)), max(0, d.im.r.Object(id).Size-off)))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	d.im.stats.bytesRead.Add(int64(n))
	return d.im.readSpan(ctx, origin{object: id}, p[:n], off)
}
