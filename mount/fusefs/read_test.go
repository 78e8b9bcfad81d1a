package fusefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

// TestFailedReadOnce: the kernel asks twice for what one read(2) wants, as read-ahead and by
// itself. The log has one line of that, and only the first waits for the store.
func TestFailedReadOnce(t *testing.T) {
	blobs := mem.New()
	src := storetest.NewFault(blobs, func(storetest.Call) storetest.Effect {
		return storetest.Effect{Err: fmt.Errorf("injected: %w", errs.ErrUnavailable)}
	})
	var text bytes.Buffer // its handler writes one line at a time, all before read(2) returns
	log := slog.New(slog.NewTextHandler(&text, nil))
	path := mounttest.Pack(t, oneFileTree(t), blobs, 0)
	const deadline = 2 * time.Second
	s := mount(t, mounttest.Open(t, path, src, image.Options{Deadline: deadline, Log: log}), fusefs.Options{Log: log})
	begun := time.Now()
	if _, err := os.ReadFile(filepath.Join(s.Dir(), "file")); !errors.Is(err, unix.EIO) {
		t.Errorf("read without a store: %v, want %v", err, unix.EIO)
	}
	if d := time.Since(begun); d < deadline || d >= 2*deadline {
		t.Errorf("the read failed after %v, want one deadline of %v", d, deadline)
	}
	if n := s.Stats().ReadErrors; n < 2 {
		t.Logf("the kernel asked %d times only", n)
	}
	if n := strings.Count(text.String(), "\n"); n != 1 {
		t.Errorf("the log has %d lines of one failed read, want 1:\n%s", n, text.String())
	}
}
