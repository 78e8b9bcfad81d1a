package node

import (
	"bufio"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
)

// protect sees to it that the service can answer the kernel when memory is short: its program
// stays in memory (a page of it that has to be read from a disk must not wait for a read that it
// serves itself), its own allocations do not wait for file systems (PR_SET_IO_FLUSHER), and it is
// not the first to be killed. What the system does not let it do is in the log.
func protect(log *slog.Logger) {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"lock the program in memory", lockProgram},
		{"allocate without waiting for file systems", func() error { return unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0) }},
		{"be killed late", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0) }},
	} {
		if err := step.do(); err != nil {
			log.Warn("serving under memory pressure: cannot "+step.what, "error", err)
		}
	}
}

// lockProgram keeps those pages of the program in memory that were used once; the rest is not
// made resident for it.
func lockProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var lo, hi uintptr
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[5] != exe {
			continue
		}
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &lo, &hi); err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, lo, hi-lo, unix.MLOCK_ONFAULT); errno != 0 {
			return errno
		}
	}
	return lines.Err()
}

// refuseOwn fails if the program or a directory of the service lies on a mount of zosfs: a read
// of its own page would wait for itself.
func (s *service) refuseOwn() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	for _, own := range []struct{ what, path string }{{"program", exe}, {"cache directory", s.dirs.Cache}, {"state directory", s.dirs.State}} {
		on, err := mount.Holds(own.path)
		if err != nil {
			return fmt.Errorf("%s %s: %w", own.what, own.path, err)
		}
		if on.Dir != "" {
			return fmt.Errorf("the %s of the node service, %s, lies on a mount of zosfs (%s at %s), which it would have to serve to itself: %w",
				own.what, own.path, on.Source, on.Dir, fs.ErrInvalid)
		}
	}
	return nil
}
