package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount/fusefs"
)

// kept returns the connection of c with a descriptor of its own, as a keeper has it.
func kept(t *testing.T, c *fusefs.Content) fusefs.Connection {
	t.Helper()
	// A test that fails must not leave readers who wait for themselves.
	t.Cleanup(func() { _ = unix.Unmount(c.Dir(), unix.MNT_FORCE|unix.MNT_DETACH) })
	conn := c.Connection()
	fd, err := unix.FcntlInt(uintptr(conn.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn.FD = fd
	return conn
}

// taken takes over and serves the devices.
func taken(t *testing.T, dir string, conn fusefs.Connection, devices ...fusefs.ContentDevice) *fusefs.Content {
	t.Helper()
	c, err := fusefs.ResumeContent(dir, conn, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		d.Open = true
		if err := c.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	c.Serve()
	return c
}

// ends unmounts c and looks after its end.
func ends(t *testing.T, c *fusefs.Content) {
	t.Helper()
	if err := c.Unmount(t.Context(), false); err != nil {
		t.Error(err)
	}
}

// TestTakeOver hands a connection on again and again while it is read from, in the way of new
// kernels and of those that do not send requests again: no read fails, is lost or gets other
// bytes.
func TestTakeOver(t *testing.T) {
	const readers, rounds, size = 8, 10, 1 << 20
	for name, old := range map[string]bool{"resend": false, "drain": true} {
		t.Run(name, func(t *testing.T) {
			p := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(p)
			device := bytesDevice("a", 2, p, make(chan string, rounds+1))
			c := content(t)
			if err := c.Add(device); err != nil {
				t.Fatal(err)
			}
			if old {
				c.ForgetResend()
			}
			f, err := os.Open(filepath.Join(c.Dir(), "a"))
			if err != nil {
				t.Fatal(err)
			}
			var (
				all     sync.WaitGroup
				end     atomic.Bool
				done    atomic.Int64
				reads   = make(chan struct{}, 1) // one was answered
				failure = make(chan error, readers)
			)
			for i := range readers {
				all.Go(func() {
					rng, b := rand.New(rand.NewPCG(uint64(i), 0)), make([]byte, 64<<10)
					for !end.Load() {
						off, n := rng.IntN(size/4096)*4096, 4096<<rng.IntN(5)
						n = min(n, size-off)
						if _, err := f.ReadAt(b[:n], int64(off)); err != nil || !bytes.Equal(b[:n], p[off:off+n]) {
							failure <- fmt.Errorf("read of %d bytes at %d: %w, or other bytes", n, off, err)
							return
						}
						done.Add(1)
						select {
						case reads <- struct{}{}:
						default:
						}
					}
				})
			}
			for range rounds {
				for next := done.Load() + 100; done.Load() < next; {
					select {
					case <-reads:
					case err := <-failure:
						t.Fatal(err)
					}
				}
				conn := kept(t, c)
				if err := c.Abandon(t.Context()); err != nil {
					t.Fatal(err)
				}
				<-c.Done()
				was := c.Connection().FD
				c = taken(t, c.Dir(), conn, device)
				if err := unix.Close(was); err != nil {
					t.Fatal(err)
				}
			}
			end.Store(true)
			all.Wait()
			select {
			case err := <-failure:
				t.Error(err)
			default:
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			ends(t, c)
		})
	}
}

// TestTakeOverFromKilled: without help of the kernel nobody goes on where requests may be lost,
// and whoever tries leaves everything as it is.
func TestTakeOverFromKilled(t *testing.T) {
	before := openFUSE(t)
	c := content(t)
	c.ForgetResend()
	refused := func(c *fusefs.Content) {
		t.Helper()
		conn := kept(t, c)
		if _, err := fusefs.ResumeContent(c.Dir(), conn, fusefs.Options{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("taking over from one that goes on: %v, want %v", err, errors.ErrUnsupported)
		}
		if err := unix.Close(conn.FD); err != nil {
			t.Errorf("the descriptor is not the caller's any more: %v", err)
		}
	}
	refused(c)
	conn := kept(t, c)
	if err := c.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	second := taken(t, c.Dir(), conn)
	refused(second) // which would be killed now
	if err := unix.Close(c.Connection().FD); err != nil {
		t.Fatal(err)
	}
	ends(t, second)
	if after := openFUSE(t); after != before {
		t.Errorf("%d descriptors are left", after-before)
	}
}

// TestTakeOverSlow: what is under way at the end is answered before it, or fails where that would
// take too long; what comes later waits.
func TestTakeOverSlow(t *testing.T) {
	for name, patient := range map[string]bool{"patient": true, "impatient": false} {
		t.Run(name, func(t *testing.T) {
			c := content(t)
			c.ForgetResend()
			p := bytes.Repeat([]byte("content\n"), 512)
			asked, answer := make(chan struct{}, 1), make(chan struct{})
			device := bytesDevice("a", 2, p, make(chan string, 3))
			fast := device.ReadAt
			device.ReadAt = func(ctx context.Context, b []byte, off int64) (int, error) {
				asked <- struct{}{}
				<-answer
				return fast(ctx, b, off)
			}
			if err := c.Add(device); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(filepath.Join(c.Dir(), "a"))
			if err != nil {
				t.Fatal(err)
			}
			read := func() <-chan error {
				got := make(chan error, 1)
				go func() {
					b := make([]byte, len(p))
					_, err := f.ReadAt(b, 0)
					if err == nil && !bytes.Equal(b, p) {
						err = errors.New("other bytes")
					}
					got <- err
				}()
				return got
			}
			first := read()
			<-asked
			conn := kept(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			left := make(chan error, 1)
			go func() { left <- c.Abandon(ctx) }()
			if patient {
				close(answer)
				if err := errors.Join(<-first, <-left); err != nil {
					t.Error(err)
				}
			} else {
				cancel()
				if err := <-left; err != nil {
					t.Error(err)
				}
				if err := <-first; !errors.Is(err, unix.EIO) {
					t.Errorf("what was not answered in time: %v, want %v", err, unix.EIO)
				}
				close(answer) // late, and for nobody
			}
			<-c.Done()
			later := read()
			device.ReadAt = fast
			was := c.Connection().FD
			c = taken(t, c.Dir(), conn, device)
			if err := errors.Join(<-later, unix.Close(was), f.Close()); err != nil {
				t.Error(err)
			}
			ends(t, c)
		})
	}
}
