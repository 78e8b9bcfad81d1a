package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// maxSpan is how much of a read is worked on at once, in bytes of plaintext: it bounds the
// memory of a read of a whole large file, and the chunks of one span come side by side.
const maxSpan = 8 << 20

// ReadAt fills p with the content of a regular file from off on, after the rules of
// [io.ReaderAt]: n < len(p) only with an error, io.EOF at the end. Holes are zeros. What the
// cache lacks is fetched; that ends with a [*ReadError] when it cannot be had, with the cause
// of ctx when that is done first, and with fs.ErrClosed after [Image.Close]. A node that is
// no regular file is fs.ErrInvalid.
func (im *Image) ReadAt(ctx context.Context, id flist.NodeID, p []byte, off int64) (int, error) {
	a := im.Tree().Attr(id)
	if a.Type() != flist.ModeRegular || off < 0 {
		return 0, fmt.Errorf("read node %d at %d: %w", id, off, fs.ErrInvalid)
	}
	if len(p) == 0 {
		return 0, nil
	}
	var eof error
	if int64(len(p)) > a.Size-off {
		p, eof = p[:max(0, a.Size-off)], io.EOF
	}
	im.stats.reads.Add(1)
	n := 0
	for n < len(p) {
		span := p[n:min(len(p), n+maxSpan)]
		if err := im.readSpan(ctx, origin{id, a.Object}, span, off+int64(n)); err != nil {
			return n, err
		}
		n += len(span)
		im.stats.bytesRead.Add(int64(len(span)))
	}
	return n, eof
}

// origin is what a read was about, as far as it is known.
type origin struct {
	node   flist.NodeID   // 0: any that has the object
	object flist.ObjectID // 0: nobody waits for it
}

// readSpan fills p, which lies inside the object.
func (im *Image) readSpan(ctx context.Context, of origin, p []byte, off int64) error {
	missing := im.readCached(of.object, p, off)
	if len(missing) == 0 {
		im.follow(of.object, off, len(p))
		return nil
	}
	im.stats.missing.Add(int64(len(missing)))
	// Read-ahead is asked for once the read itself is, and before the wait for it.
	return im.fetch(ctx, of, onDemand, missing, func() { im.follow(of.object, off, len(p)) })
}

// readCached fills p as far as holes and the cache go and returns the rest.
func (im *Image) readCached(obj flist.ObjectID, p []byte, off int64) (missing []piece) {
	pos, end := off, off+int64(len(p)) // p is filled, or in missing, up to pos
	for e := range im.r.ExtentsAt(obj, off) {
		if e.Offset >= end {
			break
		}
		c := im.r.Chunk(e.Chunk)
		lo, hi := max(e.Offset, pos), min(e.Offset+int64(c.Size), end)
		if lo >= hi {
			continue
		}
		clear(p[pos-off : lo-off])
		dst := p[lo-off : hi-off]
		if pos = hi; im.cache.Read(c.Chunk, dst, int(lo-e.Offset)) {
			im.stats.cached.Add(1)
			if im.stats.ahead.take(e.Chunk) {
				im.stats.aheadUsed.Add(1)
			}
			continue
		}
		missing = append(missing, piece{id: e.Chunk, chunk: c, off: int(lo - e.Offset), dst: dst})
	}
	clear(p[pos-off:])
	return missing
}

// fetch gets all pieces, trying again as long as that makes sense. begun, if not nil, is
// called once, after the first requests were made. pieces is used up.
func (im *Image) fetch(ctx context.Context, of origin, c class, pieces []piece, begun func()) error {
	if c == onDemand {
		if late, err := im.failures.late(pieces); err != nil {
			return im.newReadError(of, late, err)
		}
	}
	w := im.patient(ctx)
	defer w.stop()
	var last error // of a piece that did not come
	for strangers := 0; ; {
		wait, bad, err := im.failures.check(pieces)
		if err != nil {
			return im.newReadError(of, bad, err)
		}
		if wait == 0 && last != nil {
			// The download that failed was not ours: another Image with other sources, or
			// read-ahead, had the duty. Take it over, at once the first time.
			if strangers > 0 {
				wait = pause(strangers)
			}
			strangers++
		}
		if err := sleep(w.ctx, wait); err != nil {
			return im.gaveUp(ctx, of, pieces, last)
		}
		if err := im.begin(w, c, pieces); err != nil {
			return im.gaveUp(ctx, of, pieces, last)
		}
		if begun != nil {
			begun()
			begun = nil
		}
		if pieces, err = im.collect(w, pieces); len(pieces) == 0 {
			return nil
		}
		if w.ctx.Err() != nil {
			return im.gaveUp(ctx, of, pieces, last)
		}
		last = err
	}
}

// begin makes the requests for pieces. On-demand duties are taken at once; those of other
// classes when there is room, or a reader would wait for something that stands in a queue.
func (im *Image) begin(w *waiter, c class, pieces []piece) error {
	if c == onDemand {
		for _, f := range im.claim(c, pieces, true) {
			im.launch(f)
		}
		return nil
	}
	w.hold() // to stand back for others is no failure of the source
	defer w.resume()
	return im.enter(w.ctx, im.gate.enqueue(c, sealedSize(pieces)), pieces)
}

// enter waits for the ticket, then claims the pieces and downloads them one request after
// another, in the background.
func (im *Image) enter(ctx context.Context, t *ticket, pieces []piece) error {
	if err := t.wait(ctx); err != nil {
		return err
	}
	flights := im.claim(t.class, pieces, false)
	for _, f := range flights {
		im.ahead.book(im, f.size())
	}
	ok := im.spawn(func() {
		defer t.release()
		for _, f := range flights {
			f.run()
		}
	})
	if !ok {
		t.release()
		for _, f := range flights {
			f.land(errClosed)
		}
		return errClosed
	}
	return nil
}

func sealedSize(pieces []piece) (n int64) {
	for i := range pieces {
		n += int64(pieces[i].chunk.Stored)
	}
	return n
}

// gaveUp returns why a read ends whose waiter was cancelled, with the pieces still to come;
// last is what was wrong so far.
func (im *Image) gaveUp(ctx context.Context, of origin, pieces []piece, last error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case im.ctx.Err() != nil:
		return errClosed
	case last == nil:
		last = errs.ErrUnavailable
	}
	err := fmt.Errorf("nothing came for %v: %w", im.deadline, last)
	if !errors.Is(err, errs.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
	}
	im.failures.gaveUp(pieces, err)
	return im.newReadError(of, &pieces[0], err)
}

// waiter bounds one fetch: its ctx ends when the reader goes, the Image is closed or the
// deadline passes without a chunk.
type waiter struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	unhook   func() bool
	deadline time.Duration
	timer    *time.Timer   // nil: wait for ever
	since    time.Time     // when the deadline began to count
	spent    time.Duration // of the deadline, while it is held
}

func (im *Image) patient(ctx context.Context) *waiter {
	w := &waiter{deadline: im.deadline, since: time.Now()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.unhook = context.AfterFunc(im.ctx, func() { w.cancel(errClosed) })
	if w.deadline > 0 {
		w.timer = time.AfterFunc(w.deadline, func() { w.cancel(context.DeadlineExceeded) })
	}
	return w
}

func (w *waiter) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.unhook()
	w.cancel(nil)
}

// came starts the deadline anew.
func (w *waiter) came() {
	if w.timer != nil {
		w.since = time.Now()
		w.timer.Reset(w.deadline)
	}
}

// hold stops the deadline; resume goes on with what was left of it.
func (w *waiter) hold() {
	if w.timer != nil {
		w.timer.Stop()
		w.spent = time.Since(w.since)
	}
}

func (w *waiter) resume() {
	if w.timer != nil {
		w.since = time.Now().Add(-w.spent)
		w.timer.Reset(w.deadline - w.spent)
	}
}

// sleep returns after d, or with the error of ctx when that is done first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collect waits for the pieces and copies what was wanted of them. It returns those that did
// not come, and an error of one of them.
func (im *Image) collect(w *waiter, pieces []piece) (rest []piece, last error) {
	rest = pieces[:0]
	for _, p := range pieces {
		plain, err := p.wait(w.ctx)
		if err == nil && len(plain) != int(p.chunk.Size) {
			err = fmt.Errorf("cache gave %d bytes of %d: %w", len(plain), p.chunk.Size, errs.ErrCorrupt)
		}
		if err != nil {
			rest, last = append(rest, p), err
			continue
		}
		if len(p.dst) > 0 {
			copy(p.dst, plain[p.off:])
			im.stats.ahead.take(p.id) // it was on its way, but not early enough to count as used
		}
		w.came()
	}
	return rest, last
}
