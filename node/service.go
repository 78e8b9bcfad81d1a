package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/internal/credentials"
)

// Options configure [Run]. The zero value works.
type Options struct {
	Dirs       Dirs  // zero: DefaultDirs
	CacheLimit int64 // bytes; 0: the default of package cache
	// Log is where the service speaks; nil is node.log in Dirs.State, and so is everything
	// for a service that StartDetached started.
	Log *slog.Logger
	// Credentials is called for each mount; nil is credentials.Load, so that who logs in need
	// not start the service anew.
	Credentials func() (*credentials.File, error)
	Version     string        // of the program; "" is that of the build
	Idle        time.Duration // how long to go on with nothing mounted; 0: for ever
	Ready       func()        // called once, when the service answers
	// Keeper has the arguments with which this program runs [RunKeeper]; with them, mounts in
	// mode kernel survive the death of the service. nil is no keeper.
	Keeper []string
	// KeepMounts leaves the mounts to the next service when this one ends in an orderly way,
	// but for a stop that a client asks for. Until then reads wait.
	KeepMounts bool

	keeperPatience time.Duration // 0: the default
}

func (o Options) withDefaults() (Options, error) {
	if o.Dirs == (Dirs{}) {
		o.Dirs = DefaultDirs()
	}
	if o.Credentials == nil {
		o.Credentials = credentials.Load
	}
	if o.Version == "" {
		o.Version = buildVersion()
	}
	if o.Ready == nil {
		o.Ready = func() {}
	}
	var err error
	o.Dirs, err = o.Dirs.abs()
	return o, err
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

const (
	// endPatience is how long the end of the service waits for unmounting, and for answers
	// under way.
	endPatience = 15 * time.Second
	// unmountsAtOnce: a busy mount takes half a second.
	unmountsAtOnce = 16
)

// service is a running node service.
type service struct {
	opts    Options
	dirs    Dirs
	log     *slog.Logger
	cache   *cache.Cache
	since   time.Time
	table   *table
	dead    *prober
	stop    context.CancelFunc // begins the end
	memory  *memory
	drained chan struct{}   // closed when everything is unmounted
	over    <-chan struct{} // closed when the end has begun
	manager *manager
	events  *events
	poked   <-chan struct{} // something went wrong with a mount
	totals  *totals
	host    *host
	remains *remains
	saving  sync.Mutex  // held while the table of mounts is saved
	seq     uint64      // of the table saved last; guarded by saving
	lost    string      // what is not known of the mounts of services before
	leaving atomic.Bool // mounts are left to the next service
	asked   atomic.Bool // a client asked for the end
}

// Run serves a node until ctx ends, somebody calls Stop, or it has been idle, then unmounts
// what it mounted and returns nil. If another service has the state directory, it is
// [ErrRunning].
func Run(ctx context.Context, o Options) (err error) {
	starter, manager := takeStarter(), takeManager()
	defer func() { starter.failed(err) }()
	defer manager.close()
	if o, err = o.withDefaults(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := o.Dirs.prepare(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	lock, err := takeLock(ctx, o.Dirs)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if o.Log == nil || starter != nil {
		f, lerr := openLog(o.Dirs.logFile(), maxLog)
		if lerr != nil {
			return fmt.Errorf("node: %w", lerr)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		o.Log = slog.New(slog.NewTextHandler(f, nil))
	}
	if err := run(ctx, o, starter, manager); err != nil {
		o.Log.Error("the node service has failed", "error", err)
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// run is Run with the lock and the log.
func run(parent context.Context, o Options, starter *starter, manager *manager) (err error) {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	poked := make(chan struct{}, 1)
	s := &service{
		opts: o, dirs: o.Dirs, log: slog.New(&tap{o.Log.Handler(), poked}), since: time.Now(), stop: stop,
		table: newTable(o.Idle, stop), dead: newProber(), memory: newMemory(), drained: make(chan struct{}),
		over: ctx.Done(), manager: manager, events: newEvents(), poked: poked, totals: newTotals(), remains: newRemains(),
	}
	defer s.memory.end()
	defer s.table.end()
	if os.Geteuid() == 0 { // others have no mounts in mode kernel, and may not
		protect(s.log)
	}
	if err := s.refuseOwn(); err != nil {
		return err
	}
	if s.cache, err = cache.Open(o.Dirs.Cache, cache.Options{Limit: o.CacheLimit, Log: o.Log}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cache.Close()) }()
	s.memory.add(s.cache.Stats().IndexBytes)
	s.events.add(Event{Type: EventServing}) // before those of mounts that are taken over
	s.host = newHost(o, s.log)
	s.recover(ctx)
	ln, err := manager.listener(o.Dirs)
	if err == nil && ln == nil {
		ln, err = listen(ctx, o.Dirs)
	}
	if err != nil {
		return err
	}
	srv := s.server(ctx)
	served := make(chan struct{})
	var serr error // of serving, when served is closed
	go func() {
		defer close(served)
		serr = srv.Serve(ln)
	}()
	s.log.Info("the node service answers", "version", o.Version, "pid", os.Getpid(), "cache", o.Dirs.Cache, "state", o.Dirs.State)
	for _, note := range s.notes() {
		s.log.Warn(note)
	}
	for _, m := range s.deadMounts() {
		s.log.Warn("a mount is dead", "dir", m.Dir, "mode", m.Mode, "source", m.Source, "reason", m.Reason, "try", m.Try)
	}
	starter.ready()
	manager.tell(s.log, "READY=1")
	unattended := s.attend(context.WithoutCancel(parent))
	defer unattended()
	o.Ready()
	select {
	case <-ctx.Done():
	case <-served:
		err = fmt.Errorf("serve %s: %w", o.Dirs.socket(), serr)
	}
	s.end(parent, srv)
	<-served
	return err
}

// server returns what answers on the socket. Requests end with ctx.
func (s *service) server(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// end unmounts everything, answers what is under way, and takes the socket away.
func (s *service) end(ctx context.Context, srv *http.Server) {
	s.log.Info("the node service is about to end")
	s.events.add(Event{Type: EventEnding})
	s.manager.tell(s.log, "STOPPING=1")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	s.stop()
	s.table.end()
	keep := s.opts.KeepMounts && !s.asked.Load()
	if s.leaving.Store(keep && s.host.keeps()); s.leaving.Load() {
		s.save(ctx)
		s.leaving.Store(s.host.keeps()) // the keeper may have ended
	}
	if !keep { // else the next service tries again
		s.forgetAll(ctx)
	}
	if !s.leaving.Load() {
		s.unmountAll(ctx)
		s.save(ctx)
	}
	s.host.end(ctx, s.leaving.Load())
	close(s.drained)
	s.events.end()
	if err := srv.Shutdown(ctx); err != nil {
		s.log.Warn("requests were cut off", "error", errors.Join(err, srv.Close()))
	}
	if len(s.manager.files) == 0 { // else it is not ours
		if err := os.Remove(s.dirs.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("the socket stays", "error", err)
		}
	}
	s.log.Info("the node service has ended")
}

// unmountAll takes all mounts away, busy ones out of sight.
func (s *service) unmountAll(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(unmountsAtOnce)
	for _, m := range s.table.list() {
		if m.isDetached() {
			continue
		}
		g.Go(func() error {
			s.unmountLast(ctx, m)
			return nil
		})
	}
	_ = g.Wait() // all return nil
}

func (s *service) unmountLast(ctx context.Context, m *mounted) {
	err := s.unmount(ctx, m, false)
	if err == nil {
		return
	}
	log := s.log.With("ref", m.info.Ref, "dir", m.dir())
	if errors.Is(err, unix.EBUSY) {
		log.Warn("programs use the mount: it is taken out of sight, and they cannot read from it any more once the service has ended", "error", err)
	} else {
		log.Warn("cannot unmount, trying to take it out of sight", "error", err)
	}
	if err := s.unmount(ctx, m, true); err != nil {
		log.Error("the mount stays, and is dead once the service has ended", "error", err)
	}
}

// notes returns what a person should know of this service.
func (s *service) notes() []string {
	notes := []string{}
	if s.cache.Stats().ReadOnly {
		notes = append(notes, "another process writes the cache in "+s.dirs.Cache+": it is read, and what is fetched here is kept in memory alone")
	}
	if s.lost != "" {
		notes = append(notes, s.lost)
	}
	notes = append(notes, s.host.notes()...)
	if note := descriptorNote(); note != "" {
		notes = append(notes, note)
	}
	return notes
}

// fewDescriptors is what a node with many mounts may need: the cache takes up to 1,000 and each
// mount a few, connections and flists included.
const fewDescriptors = 20_000

// descriptorNote says so if the process may have few descriptors. The runtime has raised the
// soft limit to the hard one, or to one less.
func descriptorNote() string {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max >= fewDescriptors {
		return ""
	}
	return fmt.Sprintf("at most %d files and connections can be open, which may be too few for many mounts: start the node service with a hard limit of %d or more (ulimit -Hn, LimitNOFILE= of systemd)",
		limit.Max, fewDescriptors)
}
