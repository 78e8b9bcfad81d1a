package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/ref"
)

// opened is an image that a command has opened, with what must be closed after it.
type opened struct {
	*ref.Opened
	im    *image.Image
	cache *cache.Cache
}

// Close releases everything, in the reverse order of opening.
func (o *opened) Close() error {
	var err error
	if o.im != nil {
		err = o.im.Close()
	}
	if o.cache != nil {
		err = errors.Join(err, o.cache.Close())
	}
	return errors.Join(err, o.Opened.Close())
}

// openOptions are the flags of every command that takes a REF.
type openOptions struct {
	offline  bool
	allow    []string
	deadline time.Duration
	limit    size // of the cache, of mount alone
}

// openRef opens a REF without its content.
func (a *app) openRef(ctx context.Context, s string, o openOptions) (*ref.Opened, error) {
	r, creds, err := a.ref(s)
	if err != nil {
		return nil, err
	}
	op, err := ref.Open(ctx, r, ref.Options{Dir: a.dirs.Cache, Credentials: creds, Offline: o.offline, Allow: o.allow, Log: a.log()})
	if err != nil {
		return nil, err
	}
	if op.Stale {
		a.note("%s: the hub cannot be reached; this is the version it had last", op.Ref)
	}
	for _, why := range op.Refused {
		a.note("%s", why)
	}
	return op, nil
}

// readsCache is for commands that use what the node's cache holds, and add nothing: mounts fill
// it, whether a service runs or not. The memory is for what is read ahead.
var readsCache = cache.Options{ReadOnly: true, Memory: 64 << 20}

// openImage opens a REF and a way to read its content through the node's cache.
func (a *app) openImage(ctx context.Context, s string, o openOptions, co cache.Options) (*opened, error) {
	op, err := a.openRef(ctx, s, o)
	if err != nil {
		return nil, err
	}
	out := &opened{Opened: op}
	co.Log = a.log()
	if out.cache, err = cache.Open(a.dirs.Cache, co); err != nil {
		return nil, errors.Join(fmt.Errorf("cache %s: %w", a.dirs.Cache, err), out.Close())
	}
	if out.im, err = image.New(op.Flist, op.Source, image.Options{Cache: out.cache, Deadline: o.deadline, Log: a.log()}); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}
