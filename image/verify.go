package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// Damage is something that VerifyContent found wrong.
type Damage struct {
	Path   string       `json:"path"` // of a file that has it, one of them
	Node   flist.NodeID `json:"node"`
	Object chunk.Digest `json:"object"`
	Chunk  chunk.Digest `json:"chunk,omitzero"` // zero where the object as a whole is wrong
	Blob   blob.Digest  `json:"blob,omitzero"`  // likewise
	Err    error        `json:"-"`
}

// Report is what VerifyContent found.
type Report struct {
	Chunks  int64    `json:"chunks"`  // verified, or found damaged
	Objects int64    `json:"objects"` // whose digest was compared
	Damage  []Damage `json:"damage"`  // at most 1000, chunks in blob order before objects
	More    int64    `json:"more"`    // damage beyond those
}

// maxDamage bounds Report.Damage.
const maxDamage = 1000

// verifyAhead is how many ranges are under way while one is looked at.
const verifyAhead = 3

// VerifyContent reads all content from the source, past the cache, each range of each blob
// once and in order, and verifies every chunk and the digest of every object, holes as zeros.
// Objects whose chunks do not follow the order of the blobs are read again at the end. It
// goes on after damage; its error is about what kept it from looking: ctx, a source that
// refuses, or one that stays unavailable for [Options.Deadline]. progress may be nil; it is
// called from this goroutine.
func (im *Image) VerifyContent(ctx context.Context, progress func(Progress)) (Report, error) {
	v := &verifier{im: im, damaged: map[flist.ChunkID]error{}, waiting: map[flist.ChunkID][]*assembly{}}
	n := im.r.Counts()
	v.passed = newBitmap(n.Chunks)
	v.meter = meter{tell: progress, p: Progress{TotalChunks: n.Chunks, TotalBytes: n.Stored}}
	if err := v.begin(ctx); err != nil {
		return Report{}, err
	}
	if err := v.pass(ctx); err != nil {
		return Report{}, err
	}
	if err := v.finish(ctx); err != nil {
		return Report{}, err
	}
	return v.report(), nil
}

type verifier struct {
	im      *Image
	meter   meter
	passed  bitmap                        // chunks that were seen, right or wrong
	waiting map[flist.ChunkID][]*assembly // objects by the chunk that they need next
	hashers int                           // of objects under way
	late    []flist.ObjectID              // to be read again
	objects int64                         // compared
	damaged map[flist.ChunkID]error       // chunks, at most maxDamage
	wrong   []flist.ObjectID              // objects of right chunks but wrong digest, at most maxDamage
	more    int64
}

// opened is a range that was read: per piece its plaintext or what is wrong with it.
type opened struct {
	pieces []piece
	plain  [][]byte
	errs   []error
	err    error // why the range could not be looked at
}

// pass reads all chunks in blob order, a few ranges ahead, and feeds the objects.
func (v *verifier) pass(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	results := make(chan chan opened, verifyAhead)
	g.Go(func() error {
		defer close(results)
		for part := range v.im.inOrder(func(flist.ChunkID) bool { return true }, bulkRange) {
			c := make(chan opened, 1)
			select {
			case results <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				o := v.im.open(ctx, part)
				c <- o
				return o.err
			})
		}
		return nil
	})
	var err error
	for c := range results {
		if o := <-c; o.err == nil && err == nil { // else drain: the group ends soon
			err = v.look(ctx, o)
		}
	}
	return cmp.Or(g.Wait(), err)
}

func (v *verifier) look(ctx context.Context, o opened) error {
	for i, p := range o.pieces {
		if o.errs[i] != nil {
			v.addChunk(p.id, o.errs[i])
		}
		v.passed.set(p.id)
		if err := v.feed(ctx, p.id, o.plain[i]); err != nil {
			return err
		}
	}
	v.meter.add(o.pieces)
	return nil
}

// open reads the pieces, which lie in one blob in order, as one range from the source. It
// tries again what may pass, up to the deadline.
func (im *Image) open(ctx context.Context, pieces []piece) opened {
	o := opened{pieces: pieces, plain: make([][]byte, len(pieces)), errs: make([]error, len(pieces))}
	s := span{blob: pieces[0].chunk.Blob, lo: int64(pieces[0].chunk.Offset)}
	for i, p := range pieces {
		s.take(&load{id: p.id, ref: p.chunk.Ref, finish: func(plain []byte, err error) { o.plain[i], o.errs[i] = plain, err }})
	}
	begun := time.Now()
	err := s.read(ctx, im, deliver)
	for n := 1; err != nil && ctx.Err() == nil && !hopeless(err, n); n++ {
		if im.deadline > 0 && time.Since(begun) > im.deadline {
			break
		}
		if sleep(ctx, pause(n)) == nil {
			err = s.read(ctx, im, deliver)
		}
	}
	switch {
	case ctx.Err() != nil:
		o.err = context.Cause(ctx)
	case errors.Is(err, errs.ErrUnavailable), errors.Is(err, errs.ErrDenied):
		o.err = fmt.Errorf("verify blob %v: %w", im.r.Blob(s.blob).Digest, err)
	}
	s.fail(err, func(l *load, err error) { l.finish(nil, err) })
	return o
}

func deliver(l *load, plain []byte) { l.finish(plain, nil) }

func (v *verifier) addChunk(id flist.ChunkID, err error) {
	if len(v.damaged)+len(v.wrong) >= maxDamage {
		v.more++
		return
	}
	v.damaged[id] = err
}

func (v *verifier) addObject(id flist.ObjectID) {
	if len(v.damaged)+len(v.wrong) >= maxDamage {
		v.more++
		return
	}
	v.wrong = append(v.wrong, id)
}

// report finds files for what is damaged.
func (v *verifier) report() Report {
	rep := Report{Chunks: v.meter.p.Chunks, Objects: v.objects, Damage: []Damage{}, More: v.more}
	if len(v.damaged)+len(v.wrong) == 0 {
		return rep
	}
	objects := v.holders()
	files := make(map[flist.ObjectID]flist.NodeID, len(objects))
	for _, o := range objects {
		files[o] = 0
	}
	for _, o := range v.wrong {
		files[o] = 0
	}
	t := v.im.Tree()
	for id := flist.NodeID(t.Len()); id > 0; id-- { // downwards: the first node stays
		if _, ok := files[t.Attr(id).Object]; ok {
			files[t.Attr(id).Object] = id
		}
	}
	place := func(o flist.ObjectID) Damage {
		return Damage{Path: t.Path(files[o]), Node: files[o], Object: v.im.r.Object(o).Digest}
	}
	for _, id := range v.im.order().ids {
		err, ok := v.damaged[id]
		if !ok {
			continue
		}
		c := v.im.r.Chunk(id)
		d := place(objects[id])
		d.Chunk, d.Blob, d.Err = c.Chunk, v.im.r.Blob(c.Blob).Digest, err
		rep.Damage = append(rep.Damage, d)
	}
	for _, o := range v.wrong {
		d := place(o)
		d.Err = fmt.Errorf("object %v: its chunks make other content: %w", d.Object, errs.ErrCorrupt)
		rep.Damage = append(rep.Damage, d)
	}
	return rep
}

// holders returns the first object that has each damaged chunk.
func (v *verifier) holders() map[flist.ChunkID]flist.ObjectID {
	out := make(map[flist.ChunkID]flist.ObjectID, len(v.damaged))
	for o := range v.im.r.Objects() {
		for e := range v.im.r.Extents(o) {
			if _, bad := v.damaged[e.Chunk]; bad && out[e.Chunk] == 0 {
				out[e.Chunk] = o
			}
		}
	}
	return out
}
