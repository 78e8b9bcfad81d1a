package pack

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

const (
	maxUploads = 3 // blobs under way; each holds about 9 MiB
	maxStats   = 8 // questions for the size of a blob under way
)

// A blobRef is a blob that this pack reads from or makes.
type blobRef struct {
	index  uint32       // in blobs.all
	id     flist.BlobID // 0 until a row uses it
	digest blob.Digest
	size   int64
	own    bool // made here: digest and size come when it is complete
}

// blobs knows the blobs of a pack and sends its own. The placer alone calls it.
type blobs struct {
	*packer
	group   *errgroup.Group
	ctx     context.Context // of group
	uploads chan struct{}   // holds one for each that is under way
	spare   chan *blob.Writer
	stats   chan struct{} // likewise
	all     []*blobRef
	byName  map[blob.Digest]*blobRef // those of the destination
}

// newBlobs returns blobs with a context that ends when a blob cannot be sent.
func newBlobs(ctx context.Context, p *packer) (*blobs, context.Context) {
	b := &blobs{
		packer: p, byName: make(map[blob.Digest]*blobRef),
		uploads: make(chan struct{}, maxUploads), stats: make(chan struct{}, maxStats),
		spare: make(chan *blob.Writer, maxUploads+2), // and one in each filler
	}
	b.group, b.ctx = errgroup.WithContext(ctx)
	return b, b.ctx
}

// spawn runs f as soon as sem allows it, and waits until then.
func (b *blobs) spawn(sem chan struct{}, f func() error) {
	sem <- struct{}{}
	b.group.Go(func() error {
		defer func() { <-sem }()
		return f()
	})
}

func (b *blobs) add(r *blobRef) *blobRef {
	r.index = uint32(len(b.all))
	b.all = append(b.all, r)
	return r
}

// spotOf returns where the destination says that a chunk lies.
func (b *blobs) spotOf(l blob.Location) spot {
	r := b.byName[l.Blob]
	if r == nil {
		r = b.add(&blobRef{digest: l.Blob})
		b.byName[l.Blob] = r
	}
	return spot{r, l.Offset, l.Stored, uint8(l.Codec)}
}

// use returns the id of r in the flist, and gives it one at the first use.
func (b *blobs) use(w *flist.Writer, r *blobRef) flist.BlobID {
	if r.id != 0 {
		return r.id
	}
	r.id = w.AddBlob()
	if !r.own {
		b.spawn(b.stats, func() (err error) {
			if r.size, err = b.dst.Stat(b.ctx, r.digest); err != nil {
				return fmt.Errorf("blob %v, which holds chunks of the tree: %w", r.digest, err)
			}
			return nil
		})
	}
	return r.id
}

// writer returns the Writer of a new blob, in the memory of one that was sent if there is one.
func (b *blobs) writer(flags uint32) *blob.Writer {
	select {
	case w := <-b.spare:
		w.Reset(flags)
		return w
	default:
		return blob.NewWriter(flags)
	}
}

// finish waits for all blobs and writes their rows.
func (b *blobs) finish(w *flist.Writer) error {
	if err := b.group.Wait(); err != nil {
		return err
	}
	for _, r := range b.all {
		if r.id != 0 {
			w.SetBlob(r.id, flist.Blob{Digest: r.digest, Size: r.size})
		}
	}
	return nil
}

// A filler lays sealed chunks out in blobs of one kind.
type filler struct {
	*blobs
	flags uint32
	w     *blob.Writer
	ref   *blobRef
}

// add lays s out, and sends the blob before when s does not fit into it.
func (f *filler) add(s blob.Sealed) spot {
	if f.w != nil && !f.w.Fits(len(s.Data)) {
		f.close()
	}
	if f.w == nil {
		f.w = f.writer(f.flags)
		f.ref = f.blobs.add(&blobRef{own: true})
	}
	r := f.w.Add(s)
	return spot{f.ref, r.Offset, r.Stored, uint8(r.Codec)}
}

// close sends the blob in the making, if there is one. It waits while enough are under way.
func (f *filler) close() {
	if f.w == nil {
		return
	}
	ref, copied := f.ref, f.flags&blob.FlagCopy != 0
	w := f.w
	f.w, f.ref = nil, nil
	f.spawn(f.uploads, func() error {
		defer func() { f.spare <- w }()
		data, id, _ := w.Finish()
		ref.digest, ref.size = id, int64(len(data))
		if copied { // look-ups pass over copies, so nobody has asked for this one yet
			if _, err := f.dst.Stat(f.ctx, id); err == nil {
				return nil
			}
		}
		if err := store.PutSummed(f.ctx, f.dst, id, data); err != nil {
			return fmt.Errorf("put blob %v: %w", id, err)
		}
		f.count.blobs.Add(1)
		f.o.Progress.SentBytes.Add(int64(len(data)))
		f.count.sent.Add(int64(len(data)))
		return nil
	})
}
