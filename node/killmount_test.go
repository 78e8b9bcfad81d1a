package node_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/node"
)

// TestKillMounting kills services that mount, if they can be met there while they wait for an
// answer of their own: that must not keep the next service from anything, which ends it.
func TestKillMounting(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, dir, more := grow(t, 64), point(t), point(t)
	ref := s.publish(tree, "mounting")
	other := s.publish(grow(t, 65), "other")
	c := s.start(0)
	s.mount(c, ref, dir)
	met := false
	for range 4 {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() { // until the service has gone
			for {
				if _, err := c.Mount(t.Context(), node.MountRequest{Ref: other, Dir: more, Mode: "kernel", Token: s.token}); err != nil {
					return
				}
				if err := unix.Unmount(more, 0); err != nil {
					t.Errorf("unmount: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		old := c
		met = meetMounting(old.pid) || met
		if err := unix.Kill(old.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		close(stop)
		c = s.start(0)
		old.wait() // for who gave it what it waited for
		wg.Wait()  // its client, too, learns of the end only then
		check(t, tree, dir)
		if err := c.Unmount(t.Context(), more, false); err != nil && !errors.Is(err, fs.ErrNotExist) { // if it came so far
			t.Errorf("Unmount: %v", err)
		}
	}
	if !met {
		t.Error("no service was met in a mount; the test is void")
	}
	s.stop(c)
}

// meetMounting returns when a thread of the process waits in fsconfig(2), or after many looks.
func meetMounting(pid int) bool {
	want := strconv.Itoa(unix.SYS_FSCONFIG) + " "
	for range 3000 {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, path := range tasks {
			if p, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(p), want) {
				return true
			}
		}
	}
	return false
}
