package ref

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/all"
	"github.com/zosfs/zosfs/store/remote"
)

// A fetcher gets flists from where they are kept, or from a hub.
type fetcher struct {
	keep keep
	hub  *remote.Client // nil: offline
	log  *slog.Logger
	// patience is how long a hub is waited for where there is a version to fall back to.
	patience time.Duration
}

// resolve returns r with its digest, and whether that is only what was known last.
func (f *fetcher) resolve(ctx context.Context, r Ref) (_ Ref, stale bool, err error) {
	if r.Tag == "" {
		return r, false, nil
	}
	known, kerr := f.keep.digest(r)
	var why error
	begin := time.Now()
	if f.hub != nil {
		limit := time.Duration(0)
		if kerr == nil {
			limit = f.patience
		}
		if r.Digest, err = f.ask(ctx, r, limit); err == nil {
			return r, false, nil
		}
		if ctx.Err() != nil || !errors.Is(err, errs.ErrUnavailable) {
			return r, false, err
		}
		why = err
	}
	switch {
	case kerr != nil && f.hub == nil:
		return r, false, fmt.Errorf("%w, and asked to stay offline", kerr)
	case kerr != nil:
		return r, false, fmt.Errorf("%w; %w", waited(why, begin), notFound(kerr))
	}
	if r.Digest = known; f.hub == nil {
		return r, false, nil
	}
	f.log.Warn("hub is out of reach, taking the version known last", "ref", r.String(), "digest", known.String(), "error", why)
	return r, true, nil
}

// ask asks the hub where the tag of r points, for as long as limit if that is not 0.
func (f *fetcher) ask(parent context.Context, r Ref, limit time.Duration) (flist.Digest, error) {
	ctx := parent
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(parent, limit)
		defer cancel()
	}
	var t api.Tag
	err := again(ctx, func() (err error) {
		t, err = f.hub.Tag(ctx, api.Ref{Owner: r.Owner, Name: r.Name, Tag: r.Tag})
		return refused(err)
	})
	if err != nil && ctx.Err() != nil && parent.Err() == nil {
		err = fmt.Errorf("hub %s: no answer in %v: %w", r.Hub, limit, errs.ErrUnavailable)
	}
	return flist.Digest(t.Flist.Digest), err
}

// waited says how long a hub was waited for, without what was asked of it.
func waited(err error, begin time.Time) error {
	if u, ok := errors.AsType[*remote.UnreachableError](err); ok {
		err = u
	}
	return fmt.Errorf("%w (waited %v)", err, time.Since(begin).Round(100*time.Millisecond))
}

// notFound takes the kind from an error: that something is not kept here does not mean that
// it does not exist.
func notFound(err error) error { return errors.New(err.Error()) }

// open opens the flist of r, whose digest is known, and keeps it.
func (f *fetcher) open(ctx context.Context, r Ref) (*flist.Reader, error) {
	reader, err := f.keep.open(r.Digest)
	if err == nil || !errors.Is(err, errs.ErrNotFound) {
		return reader, err
	}
	if f.hub == nil {
		return nil, fmt.Errorf("%w, and asked to stay offline", err)
	}
	begin := time.Now()
	if err := f.fetch(ctx, r); err != nil {
		if errors.Is(err, errs.ErrUnavailable) {
			err = waited(err, begin)
		}
		return nil, err
	}
	reader, err = f.keep.open(r.Digest)
	if errors.Is(err, errs.ErrCorrupt) || errors.Is(err, errs.ErrFormat) {
		// It is what the hub calls it, but of no use.
		err = errors.Join(err, f.keep.drop(r.Digest))
	}
	return reader, err
}

// fetch gets the flist of r from the hub and keeps it.
func (f *fetcher) fetch(ctx context.Context, r Ref) error {
	err := again(ctx, func() error {
		in, err := f.hub.OpenFlist(ctx, api.Ref{Owner: r.Owner, Name: r.Name, Digest: api.Digest(r.Digest)})
		if err != nil {
			return refused(err)
		}
		if err := f.keep.put(ctx, r.Digest, in, in.Size); err != nil {
			return fmt.Errorf("get flist %v from %s: %w", r.Digest, r.Hub, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := f.keep.trim(maxKept); err != nil {
		f.log.Warn("old flists stay", "error", err)
	}
	return nil
}

// remember notes where the tag of r points. That this fails costs the next offline mount, not
// this one.
func (f *fetcher) remember(r Ref) {
	if r.Tag == "" {
		return
	}
	if known, err := f.keep.digest(r); err == nil && known == r.Digest {
		return
	}
	if err := f.keep.remember(r); err != nil {
		f.log.Warn("the version is not remembered for offline use", "ref", r.String(), "error", err)
	}
}

// again calls do up to [tries] times while that fails with errs.ErrUnavailable: a poor link
// should not fail a mount by one lost connection.
func again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == tries || !errors.Is(err, errs.ErrUnavailable) {
			return err
		}
		wait := pause << (n - 1)
		if busy, ok := errors.AsType[*store.RetryAfterError](err); ok {
			wait = min(max(wait, busy.After), maxPause)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// Pauses between tries; the last is what a hub may ask for at most.
const (
	tries    = 3
	pause    = 250 * time.Millisecond
	maxPause = 5 * time.Second
	// patience lets a connection fail for want of an answer, and another one come about.
	patience = 15 * time.Second
)

// refused returns the refusal in err, if there is one: that a hub is out of reach, which is
// what a client makes of it, would be taken for a reason to try again later.
func refused(err error) error {
	if r, ok := errors.AsType[*all.RefusedError](err); ok {
		return r
	}
	return err
}
