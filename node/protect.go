package node

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
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
// made resident for it. The mappings of the program are those of the file that this function is
// in, whatever name it has by now.
func lockProgram() error {
	p, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	parts, err := mappedWith(string(p), uint64(reflect.ValueOf(lockProgram).Pointer()))
	if err != nil {
		return err
	}
	for _, m := range parts {
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(m.lo), uintptr(m.hi-m.lo), unix.MLOCK_ONFAULT); errno != 0 {
			return errno
		}
	}
	return nil
}

// mapping is [lo, hi) of the addresses of a process, where it has a file.
type mapping struct {
	lo, hi uint64
	file   string // device and inode
}

// mappedWith returns all mappings of the file that is mapped at addr, from what /proc/PID/maps has.
func mappedWith(maps string, addr uint64) ([]mapping, error) {
	var all []mapping
	file := ""
	for line := range strings.Lines(maps) {
		var m mapping
		var offset uint64
		var mode, device, inode string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %s %s", &m.lo, &m.hi, &mode, &offset, &device, &inode); err != nil {
			return nil, fmt.Errorf("mappings of the process: line %q: %w", line, err)
		}
		if inode == "0" { // no file
			continue
		}
		m.file = device + " " + inode
		if m.lo <= addr && addr < m.hi {
			file = m.file
		}
		all = append(all, m)
	}
	if file == "" {
		return nil, fmt.Errorf("no mapping of the process is of its program: %w", errProc)
	}
	return slices.DeleteFunc(all, func(m mapping) bool { return m.file != file }), nil
}

// refuseOwn fails if the program or a directory of the service lies on a mount of zosfs, be it
// through an overlay: a read of its own page would wait for itself.
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
			return fmt.Errorf("the %s of the node service, %s, lies on a mount of zosfs, directly or through an overlay (%s at %s), which it would have to serve to itself: %w",
				own.what, own.path, on.Source, on.Dir, fs.ErrInvalid)
		}
	}
	return nil
}
