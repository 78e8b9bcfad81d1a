package fusefs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watchInterval is how often an interrupted read looks whether its reader was killed: short
// for a person who waits for Ctrl-C, long beside what a look costs (20 us).
const watchInterval = 50 * time.Millisecond

// A readContext ends when nobody waits for the read any more: when the reader was killed, or
// the connection to the kernel is gone.
//
// The kernel reports each signal that reaches a waiting reader as an interrupt, the first
// time only, and does not say if it kills. A file system that fails the read then returns
// EINTR where programs do not expect it, and SIGBUS where a page was touched; Go programs
// send such signals to their own threads all the time. So an interrupt is only the occasion
// to look after the reader, from then on until the read ends.
//
// Nothing runs before Done is called, so a read that does not wait costs nothing.
type readContext struct {
	interrupted <-chan struct{}
	pid         uint32 // thread that reads, 0 if it is in no process-id namespace of ours
	fd          int    // of /dev/fuse

	mu    sync.Mutex
	done  chan struct{} // made by the first Done, closed when the context ends
	ended chan struct{} // made by the first Done, closed when the read ends
	wg    sync.WaitGroup
}

var _ context.Context = (*readContext)(nil)

func (c *readContext) Deadline() (time.Time, bool) { return time.Time{}, false }

func (c *readContext) Value(any) any { return nil }

func (c *readContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		c.ended = make(chan struct{})
		c.wg.Go(c.watch)
	}
	return c.done
}

func (c *readContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done: // never while it is nil
		return context.Canceled
	default:
		return nil
	}
}

// end says that the read has ended, and waits for the watcher. Nobody uses the context
// afterwards.
func (c *readContext) end() {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if ended != nil {
		close(ended)
		c.wg.Wait()
	}
}

func (c *readContext) watch() {
	select {
	case <-c.interrupted:
	case <-c.ended:
		return
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for !killed(c.pid) && !disconnected(c.fd) {
		select {
		case <-tick.C:
		case <-c.ended:
			return
		}
	}
	close(c.done)
}

// disconnected reports whether the kernel has given the connection up.
func disconnected(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
}

// killed reports whether SIGKILL is pending for the thread tid. The kernel turns every signal
// that ends a process, unless it dumps core, into that one. A thread that cannot be looked at
// counts as alive: it waits, so it is there.
func killed(tid uint32) bool {
	if tid == 0 {
		return false
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}
