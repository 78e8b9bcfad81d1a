package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/db"
	"github.com/zosfs/zosfs/hub/ui"
	"github.com/zosfs/zosfs/store/dir"
)

// Options configure a Server. Everything but Data has a default.
type Options struct {
	Data    string       // directory; made if it is not there
	Log     *slog.Logger // nil: nothing is logged
	Version string       // of the program, for GET /v1

	MaxFlist int64 // largest flist as shipped, in bytes; default 1 GiB
	Public   bool  // new repositories may be read by everybody unless the publisher says otherwise

	Uploads  int // blobs and flists received at once, more are told to come back; default 64
	Verifies int // uploads verified at once, at blob.MaxSize of memory each; default the processors, at least 2

	TLSCert, TLSKey string        // PEM files; both or none
	Grace           time.Duration // how long Serve waits for running requests when it is to stop; default 20 s
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	if o.MaxFlist <= 0 {
		o.MaxFlist = 1 << 30
	}
	if o.Uploads <= 0 {
		o.Uploads = 64
	}
	if o.Verifies <= 0 {
		o.Verifies = max(2, runtime.GOMAXPROCS(0))
	}
	if o.Grace <= 0 {
		o.Grace = 20 * time.Second
	}
	return o
}

// A Server is one hub. See [New].
type Server struct {
	opts   Options
	db     *db.DB
	blobs  *dir.Store
	flists string
	tmp    string
	lock   *os.File
	page   *ui.UI
	trees  *trees

	uploads  slots
	verifies slots
	lookups  slots
	failures *failures
	busy     digestLocks

	handler http.Handler
	now     func() time.Time
	step    func(string) // told what was done; tests end the process there
}

// New opens the data directory. A directory that another process serves is errs.ErrUnavailable.
// The caller calls Close when no request runs any more.
func New(ctx context.Context, o Options) (_ *Server, err error) {
	o = o.withDefaults()
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, errors.New("hub: a TLS certificate needs a key, and a key a certificate")
	}
	s := &Server{
		opts: o, flists: filepath.Join(o.Data, "flists"), tmp: filepath.Join(o.Data, "tmp"),
		uploads: make(slots, o.Uploads), verifies: make(slots, o.Verifies), lookups: make(slots, 4*o.Verifies),
		failures: newFailures(), now: time.Now, step: func(string) {},
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if s.lock, err = lockData(o.Data); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("hub: %w", err), s.Close())
	}
	if s.handler, err = s.routes(); err != nil {
		return nil, errors.Join(fmt.Errorf("hub: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	if err := os.RemoveAll(s.tmp); err != nil { // uploads that a crash cut off
		return err
	}
	for _, d := range []string{s.tmp, s.flists} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if s.blobs, err = dir.New(s.opts.Data); err != nil {
		return err
	}
	for _, d := range []string{s.flists, filepath.Join(s.opts.Data, "blobs")} {
		if err := movable(s.tmp, d); err != nil {
			return err
		}
	}
	if s.db, err = db.Open(ctx, databasePath(s.opts.Data)); err != nil {
		return err
	}
	if s.page, err = ui.New(); err != nil {
		return err
	}
	s.trees = newTrees(s.openFlist)
	return nil
}

// movable reports whether files can be renamed from one directory to the other, by trying:
// bind mounts forbid it within one file system too.
func movable(from, to string) error {
	f, err := os.CreateTemp(from, "probe-")
	if err != nil {
		return err
	}
	path := filepath.Join(to, filepath.Base(f.Name()))
	if err := errors.Join(f.Close(), os.Rename(f.Name(), path)); err != nil {
		return fmt.Errorf("%s and %s must lie on one file system: %w", from, to, errors.Join(err, os.Remove(f.Name())))
	}
	return os.Remove(path)
}

func databasePath(data string) string { return filepath.Join(data, "hub.db") }

// lockData takes the lock that lets one process serve the directory. The system drops it
// when the process ends, however it ends.
func lockData(data string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(data, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("lock %s: another process serves this directory: %w: %w", f.Name(), errs.ErrUnavailable, err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Handler returns what serves the protocol and the page.
func (s *Server) Handler() http.Handler { return s.handler }

// Close closes the data directory. It must not be called while requests run; [Server.Serve]
// has ended them when it returns.
func (s *Server) Close() error {
	var all []error
	if s.trees != nil {
		all = append(all, s.trees.close())
	}
	if s.db != nil {
		all = append(all, s.db.Close())
	}
	if s.lock != nil {
		all = append(all, s.lock.Close())
	}
	return errors.Join(all...)
}

// openBlob opens the file of a blob that has rows. That it is not there is a fault of the
// hub, not an answer, so the kind of that error is not passed on.
func (s *Server) openBlob(ctx context.Context, id blob.Digest, size int64) (*os.File, error) {
	f, n, err := s.blobs.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("a blob with rows has no file: %w: %s", errs.ErrUnavailable, err.Error())
	}
	if n != size {
		return nil, errors.Join(fmt.Errorf("blob %v: the file has %d bytes, the rows say %d: %w", id, n, size, errs.ErrUnavailable), f.Close())
	}
	return f, nil
}

// slots bound how many do something at once.
type slots chan struct{}

// acquire waits for a slot. Call release afterwards if there was no error.
func (s slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try takes a slot if there is one.
func (s slots) try() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) release() { <-s }
