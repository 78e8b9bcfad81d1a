package mounttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

const (
	// faultFiles files of faultSize bytes, each in a blob of its own or in two.
	faultFiles = 4
	faultSize  = 300_000
	// patience is how long a test waits for what should come at once.
	patience = 30 * time.Second
)

// Faults tests what a mount does when its store fails, one subtest and one mount per fault.
func Faults(t *testing.T, mount Mounter) {
	for _, clause := range []struct {
		name     string
		deadline time.Duration
		test     func(*faulty, *testing.T)
	}{
		{"Gone", 300 * time.Millisecond, (*faulty).gone},
		{"Missing", 300 * time.Millisecond, (*faulty).missing},
		{"Denied", 300 * time.Millisecond, (*faulty).denied},
		{"Wrong", 300 * time.Millisecond, (*faulty).wrong},
		{"Short", 300 * time.Millisecond, (*faulty).short},
		{"Offline", 300 * time.Millisecond, (*faulty).offline},
		{"Signal", -1, (*faulty).signal},
		{"Kill", -1, (*faulty).kill},
		{"Busy", -1, (*faulty).busy},
	} {
		t.Run(clause.name, func(t *testing.T) {
			f := newFaulty(t, image.Options{Deadline: clause.deadline})
			f.dir = mount(t, f.im)
			clause.test(f, t)
		})
	}
}

// faulty is a mount whose store can be broken.
type faulty struct {
	dir   string
	im    *image.Image
	store *storetest.Fault
	want  [faultFiles][]byte
}

func newFaulty(t *testing.T, o image.Options) *faulty {
	f := &faulty{}
	ref := testenv.TempDir(t)
	rng := rand.NewChaCha8([32]byte{2})
	for i := range f.want {
		f.want[i] = make([]byte, faultSize)
		_, _ = rng.Read(f.want[i])
		if err := os.WriteFile(filepath.Join(ref, fmt.Sprint(i)), f.want[i], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blobs := mem.New()
	path := Pack(t, ref, blobs, faultSize)
	f.store = storetest.NewFault(blobs, nil)
	f.im = Open(t, path, f.store, o)
	return f
}

// fail makes every Get fail with err; nil repairs the store.
func (f *faulty) fail(err error) {
	f.store.SetHook(func(c storetest.Call) storetest.Effect {
		if c.Op != storetest.Get {
			return storetest.Effect{}
		}
		return storetest.Effect{Err: err}
	})
}

// stall makes every Get wait until release is called. reached gets a value for each.
func (f *faulty) stall(t *testing.T) (reached <-chan struct{}, release func()) {
	in, gate := make(chan struct{}, 1000), make(chan struct{})
	f.store.SetHook(func(storetest.Call) storetest.Effect {
		in <- struct{}{}
		return storetest.Effect{Stall: gate}
	})
	open := true
	release = func() {
		if open {
			open = false
			f.store.SetHook(nil)
			close(gate)
		}
	}
	t.Cleanup(release)
	return in, release
}

func (f *faulty) path(i int) string { return filepath.Join(f.dir, fmt.Sprint(i)) }

// read reads file i, past what the kernel holds of it. What it returns without an error is
// checked.
func (f *faulty) read(i int) error {
	file, err := os.Open(f.path(i))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	var got bytes.Buffer
	_, err = io.Copy(&got, file)
	if !bytes.Equal(got.Bytes(), f.want[i][:got.Len()]) {
		return fmt.Errorf("file %d has wrong bytes: %w", i, errs.ErrCorrupt)
	}
	if err == nil && got.Len() != faultSize {
		return fmt.Errorf("file %d has %d bytes, want %d: %w", i, got.Len(), faultSize, errs.ErrCorrupt)
	}
	return err
}

// recovers tests that file i can be read again by itself, before long.
func (f *faulty) recovers(t *testing.T, i int) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		err := f.read(i)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EIO) || time.Now().After(end) {
			t.Fatalf("read after the store is back: %v", err)
		}
	}
}

// failsWith tests that reads are EIO while the store fails with err, and work afterwards.
func (f *faulty) failsWith(t *testing.T, err error) {
	t.Helper()
	f.fail(err)
	begin := time.Now()
	if got := f.read(0); !errors.Is(got, unix.EIO) {
		t.Errorf("read with the store failing: %v, want %v", got, unix.EIO)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("the read failed after %v", took)
	}
	if _, err := os.Stat(f.path(1)); err != nil {
		t.Errorf("stat needs the store: %v", err)
	}
	f.fail(nil)
	f.recovers(t, 0)
}

// gone: a store out of reach is EIO after the deadline, and is used again once it is back.
func (f *faulty) gone(t *testing.T) {
	f.failsWith(t, fmt.Errorf("injected: %w", errs.ErrUnavailable))
}

// missing: a blob that is not there is EIO, since the file is there.
func (f *faulty) missing(t *testing.T) {
	f.failsWith(t, fmt.Errorf("injected: %w", errs.ErrNotFound))
}

// denied: the rights of the node are not the reader's affair.
func (f *faulty) denied(t *testing.T) {
	f.failsWith(t, fmt.Errorf("injected: %w", errs.ErrDenied))
}

// wrong: bytes that a store made up never reach a reader.
func (f *faulty) wrong(t *testing.T) {
	f.effect(t, storetest.Effect{Flip: storetest.FlipAll})
}

// short: neither do too few.
func (f *faulty) short(t *testing.T) {
	f.effect(t, storetest.Effect{End: storetest.Short, After: 1000})
}

func (f *faulty) effect(t *testing.T, e storetest.Effect) {
	f.store.SetHook(func(storetest.Call) storetest.Effect { return e })
	var g errgroup.Group
	for i := range faultFiles {
		g.Go(func() error {
			if err := f.read(i); !errors.Is(err, unix.EIO) {
				return fmt.Errorf("read of file %d: %w, want %w", i, err, unix.EIO)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	f.store.SetHook(nil)
	for i := range faultFiles {
		f.recovers(t, i)
	}
}

// offline: what was read once can be read without the store, from the node's cache.
func (f *faulty) offline(t *testing.T) {
	if err := f.read(0); err != nil {
		t.Fatal(err)
	}
	f.fail(fmt.Errorf("injected: %w", errs.ErrUnavailable))
	if err := f.read(0); err != nil {
		t.Errorf("read of what was read before: %v", err)
	}
	if err := f.read(3); !errors.Is(err, unix.EIO) {
		t.Errorf("read of what was not: %v, want %v", err, unix.EIO)
	}
}

// signal: a signal that does not kill leaves a read alone, as on a disk.
func (f *faulty) signal(t *testing.T) {
	for i, flags := range []int{0, unix.O_DIRECT} {
		if flags != 0 && !f.direct(t) {
			continue
		}
		reached, release := f.stall(t)
		thread, done := make(chan int, 1), make(chan error, 1)
		p := make([]byte, faultSize)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			thread <- unix.Gettid()
			done <- readOnce(f.path(i), flags, p)
		}()
		wait(t, "the read to reach the store", reached)
		// The Go runtime sends itself this signal and expects it at any time.
		if err := unix.Tgkill(unix.Getpid(), <-thread, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		select {
		case err := <-done:
			t.Errorf("a signal ended the read: %v", err)
		case <-ctx.Done():
			release()
			if err := <-done; err != nil || !bytes.Equal(p, f.want[i]) {
				t.Errorf("read after a signal: %v", err)
			}
		}
		cancel()
	}
}

// direct reports whether files can be opened for direct reads; EROFS over a file declines.
func (f *faulty) direct(t *testing.T) bool {
	t.Helper()
	fd, err := unix.Open(f.path(0), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return false
	}
	if err == nil {
		err = unix.Close(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

// readOnce fills p with one call from the begin of a file.
func readOnce(path string, flags int, p []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	n, err := unix.Pread(fd, p, 0)
	if err == nil && n != len(p) {
		err = fmt.Errorf("%d of %d bytes came", n, len(p))
	}
	return errors.Join(err, unix.Close(fd))
}

// kill: who waits for the store can be killed, however long it takes.
func (f *faulty) kill(t *testing.T) {
	for _, args := range [][]string{{"cat", "0"}, {"dd", "if=1", "of=/dev/null", "bs=1M", "iflag=direct"}} {
		testenv.NeedTool(t, args[0])
		if args[0] == "dd" && !f.direct(t) {
			continue
		}
		reached, release := f.stall(t)
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = f.dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			_ = cmd.Wait()
		}()
		wait(t, "the read to reach the store", reached)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the reader to die", dead)
		release()
	}
	for i := range f.want { // others are not hurt
		f.recovers(t, i)
	}
}

// busy: a mount with a read under way does not go away, and when it is taken out of sight the
// read ends as if nothing had happened.
func (f *faulty) busy(t *testing.T) {
	testenv.NeedRoot(t)
	reached, release := f.stall(t)
	p, done := make([]byte, faultSize), make(chan error, 1)
	path := f.path(0)
	go func() { done <- readOnce(path, 0, p) }()
	wait(t, "the read to reach the store", reached)
	if err := unix.Unmount(f.dir, 0); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount while a file is read: %v, want %v", err, unix.EBUSY)
	}
	if err := unix.Unmount(f.dir, unix.MNT_DETACH); err != nil {
		t.Errorf("lazy unmount: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat after the unmount: %v, want %v", err, fs.ErrNotExist)
	}
	release()
	if err := <-done; err != nil || !bytes.Equal(p, f.want[0]) {
		t.Errorf("read that the unmount overtook: %v", err)
	}
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("waited for %s in vain", what)
	}
}
