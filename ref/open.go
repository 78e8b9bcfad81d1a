package ref

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/all"
	"github.com/zosfs/zosfs/store/multi"
	"github.com/zosfs/zosfs/store/remote"
)

// Options say how to open a reference. The zero value works.
type Options struct {
	// Dir is where flists, checked copies of them and what tags pointed to are kept; "" keeps
	// nothing.
	Dir string
	// Credentials has the tokens; nil is none.
	Credentials *credentials.File
	// Offline forbids to ask hubs: tags are those known last, content is what is cached, or
	// lies in directories of this machine.
	Offline bool
	// Allow has hosts that may be followed where an flist or a redirect names them, as
	// all.PolicyOptions has it.
	Allow []string
	// Digest, if not zero, is the flist that is wanted, whatever the reference leads to by now:
	// one that was opened before, with the same Dir.
	Digest flist.Digest
	// Log is told of what was worked around; nil is nobody.
	Log *slog.Logger
}

// Opened is an flist and where its content is.
type Opened struct {
	Ref     Ref // with Digest
	Flist   *flist.Reader
	Source  *multi.Store // of blobs: the hub first, then what the flist names and policy allows
	Refused []string     // sources that the flist names and that are not followed, and why
	Stale   bool         // the hub was out of reach: this is what the tag pointed to last

	stores []store.Getter // of Source
	temp   string         // directory to remove; "" is none
}

// Client returns a client of the hub of r, with the token of the user for it, for a user who
// named the hub. The caller closes it.
func Client(r Ref, creds *credentials.File) (*remote.Client, error) {
	return remote.New(remote.Options{URL: r.Hub, Token: creds.Token(r.Hub), TokenName: creds.TokenName(r.Hub)})
}

// Open opens the flist that r names, fetching it where it is not kept, and its sources. That
// the hub knows no such flist, or nothing of it is kept and Offline set, is errs.ErrNotFound, that
// the hub is out of reach, with nothing kept, errs.ErrUnavailable; bytes that are not what their
// digest says are errs.ErrCorrupt. The caller closes the Opened.
func Open(ctx context.Context, r Ref, o Options) (_ *Opened, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	policy, err := all.NewPolicy(all.PolicyOptions{Hub: r.Hub, Hubs: o.Credentials.Hubs(), Allow: o.Allow})
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", r, err)
	}
	op := &Opened{Ref: r}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "zosfs-ref-"); err != nil {
			return nil, fmt.Errorf("open %v: %w", r, err)
		}
		op.temp = o.Dir
	}
	if err := op.open(ctx, policy, o); err != nil {
		return nil, errors.Join(named(r, err), op.Close())
	}
	return op, nil
}

// named says what could not be opened, unless err says so itself.
func named(r Ref, err error) error {
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok || r.IsPath() {
		return err
	}
	return fmt.Errorf("open %v: %w", r, err)
}

func (op *Opened) open(ctx context.Context, policy *all.Policy, o Options) error {
	keep, err := newKeep(o.Dir, op.temp == "", o.Log)
	if err != nil {
		return err
	}
	if op.Ref.IsPath() {
		if op.Flist, err = keep.openPathAs(op.Ref.Path, o.Digest); err == nil {
			op.Ref.Digest = op.Flist.Digest()
		}
	} else {
		if !o.Digest.IsZero() {
			op.Ref.Tag, op.Ref.Digest = "", o.Digest
		}
		err = op.fetch(ctx, keep, policy, o)
	}
	if err != nil {
		return err
	}
	return op.connect(ctx, policy, o)
}

// fetch opens the flist of a hub.
func (op *Opened) fetch(ctx context.Context, keep keep, policy *all.Policy, o Options) (err error) {
	f := &fetcher{keep: keep, log: o.Log, patience: patience}
	if !o.Offline {
		client := policy.Client()
		defer client.CloseIdleConnections()
		f.hub, err = remote.New(remote.Options{
			URL: op.Ref.Hub, Token: o.Credentials.Token(op.Ref.Hub), TokenName: o.Credentials.TokenName(op.Ref.Hub), HTTP: client,
		})
		if err != nil {
			return err
		}
	}
	if op.Ref, op.Stale, err = f.resolve(ctx, op.Ref); err != nil {
		return err
	}
	if op.Flist, err = f.open(ctx, op.Ref); err != nil {
		return err
	}
	f.remember(op.Ref)
	return nil
}

// connect opens what content is read from.
func (op *Opened) connect(ctx context.Context, policy *all.Policy, o Options) error {
	var sources []multi.Source
	add := func(name string, g store.Getter) {
		op.stores = append(op.stores, g)
		sources = append(sources, multi.Source{Name: name, Getter: g})
	}
	seen := map[string]bool{}
	if op.Ref.Hub != "" {
		seen[op.Ref.Hub] = true
		if !o.Offline {
			hub, err := all.Open(ctx, op.Ref.Hub, all.Options{Token: o.Credentials.Token(op.Ref.Hub), Policy: policy})
			if err != nil {
				return err
			}
			add(op.Ref.Hub, hub)
		}
	}
	for _, s := range op.Flist.Sources() {
		name := all.Redact(s.URL)
		if hub, err := credentials.Hub(s.URL); err == nil {
			name = hub
			if o.Offline {
				continue
			}
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		g, err := all.Open(ctx, s.URL, all.Options{Credentials: o.Credentials.Known, Policy: policy})
		if err != nil {
			op.Refused = append(op.Refused, err.Error())
			continue
		}
		add(name, g)
	}
	if len(sources) == 0 {
		add(nowhere(o.Offline))
	}
	op.Source = multi.New(sources, multi.Options{Report: func(source string, reason error) {
		o.Log.Warn("a source served wrong bytes and is avoided", "source", source, "error", reason)
	}})
	return nil
}

// Close closes the flist and its sources.
func (op *Opened) Close() error {
	var errs []error
	if op.Source != nil {
		errs = append(errs, op.Source.Close())
	}
	for _, s := range op.stores {
		errs = append(errs, store.Close(s))
	}
	if op.Flist != nil {
		errs = append(errs, op.Flist.Close())
	}
	if op.temp != "" {
		errs = append(errs, os.RemoveAll(op.temp))
	}
	return errors.Join(errs...)
}

// nothing is a source of no blob: reading from it fails at once, with the reason, where no
// waiting would help.
type nothing struct{ err error }

// nowhere returns the source of an flist without any.
func nowhere(offline bool) (string, store.Getter) {
	if offline {
		return "offline", nothing{fmt.Errorf("asked to stay offline, and the cache lacks it: %w", errs.ErrNotFound)}
	}
	return "no source", nothing{fmt.Errorf("the flist names no source that may be followed: %w", errs.ErrDenied)}
}

// Get implements store.Getter.
func (n nothing) Get(context.Context, blob.Digest, int64, int64) (io.ReadCloser, error) {
	return nil, n.err
}
