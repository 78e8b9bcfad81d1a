package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lab is the temporary directory of a run, the programs that run in it, and what must be
// done at its end.
type lab struct {
	dir  string
	log  io.Writer // what is being done, for people
	root bool
	undo []func() error
}

// newLab makes a lab below dir, or, where that is "", in the first default place on a disk.
func newLab(dir string, log io.Writer) (*lab, error) {
	if dir == "" {
		dir = diskDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(dir, "zosfs-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: tmp, log: log, root: os.Geteuid() == 0}
	l.later(func() error { return removeTree(tmp) })
	return l, nil
}

func diskDir() string {
	for _, dir := range []string{os.TempDir(), "/var/tmp", "."} {
		if name := fsName(dir); name != "tmpfs" && name != "overlayfs" && name != "unknown" {
			return dir
		}
	}
	return os.TempDir()
}

// later keeps f to be called at the end, last first.
func (l *lab) later(f func() error) { l.undo = append(l.undo, f) }

// Close undoes everything.
func (l *lab) Close() error {
	var err error
	for _, f := range slices.Backward(l.undo) {
		err = errors.Join(err, f())
	}
	l.undo = nil
	return err
}

func (l *lab) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.log, "bench: "+format+"\n", args...) // for people who may have gone
}

// path returns a path in the lab.
func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

// mkdir makes a directory in the lab, empty.
func (l *lab) mkdir(elem ...string) (string, error) {
	dir := l.path(elem...)
	if err := removeTree(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// removeTree removes dir after whatever is mounted below it was taken out; never the content
// of a mount.
func removeTree(dir string) error {
	for _, m := range slices.Backward(mountsBelow(dir)) {
		if err := detach(m); err != nil {
			return fmt.Errorf("leave %s alone, something is mounted there: %w", dir, err)
		}
	}
	return os.RemoveAll(dir)
}

// mountsBelow returns the mount points at and below dir, in the order of mounting.
func mountsBelow(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var found []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			found = append(found, fields[4])
		}
	}
	return found
}

// detach takes out what is mounted at dir, if that did not go by itself meanwhile.
func detach(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		err = exec.Command("fusermount3", "-u", "-z", dir).Run() //nolint:noctx // part of the clean-up, which outlives every context
	}
	return err
}

// dropCaches drops the page cache and the kernel's names and inodes.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// command is a program to run. Its standard output goes to Out, or is returned.
type command struct {
	args []string
	env  []string // added to the environment
	dir  string
	in   io.Reader
	out  io.Writer
}

// outcome is what a program did.
type outcome struct {
	stdout []byte
	wall   time.Duration
	peak   int64 // bytes of memory at most, VmHWM
}

// run runs a program to its end. It leads a process group of its own, so that a Ctrl-C comes
// to this process alone, and is ended with ctx.
func (l *lab) run(ctx context.Context, c command) (outcome, error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout = c.dir, c.in, c.out
	var stdout, stderr strings.Builder
	if c.out == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	peak := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	out := outcome{stdout: []byte(stdout.String()), wall: time.Since(start), peak: peak()}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(c.args, " "), err, reason(stderr.String()))
	}
	return out, nil
}

// reason returns what a program said at its end: the message, where it spoke JSON.
func reason(s string) string {
	var said struct{ Message string }
	if json.Unmarshal([]byte(s), &said) == nil && said.Message != "" {
		return said.Message
	}
	s = strings.Join(strings.Fields(s), " ")
	return s[max(0, len(s)-300):]
}

// watchPeak follows the peak memory of a process until the function that it returns is
// called. The rusage of a child would count what its parent had when it was started.
func watchPeak(pid int) func() int64 {
	stop, result := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, memory(pid, "VmHWM"))
			select {
			case <-stop:
				result <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(stop); return <-result }
}

// memory returns a field of /proc/PID/status in bytes: VmHWM, the peak, or VmRSS.
func memory(pid int, name string) int64 {
	kb, err := strconv.ParseInt(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", pid), name), " kB"), 10, 64)
	if err != nil {
		return 0 // it has ended
	}
	return kb << 10
}

// service is a program that runs until it is stopped.
type service struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start starts a service whose log goes to a file of that name in the lab. Its standard
// output is a pipe, which the caller reads, if wanted.
func (l *lab) start(name string, c command, stdout io.Writer) (*service, error) {
	log, err := os.OpenFile(l.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.args[0], c.args[1:]...) //nolint:noctx // stop ends it in order, so that it can unmount
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, stdout, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &service{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // that it has ended is what counts
		close(s.done)
	}()
	l.later(s.stop)
	return s, nil
}

func (s *service) pid() int { return s.cmd.Process.Pid }

// stop ends the service, if it still runs.
func (s *service) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.done:
		return nil
	case <-time.After(20 * time.Second):
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	return fmt.Errorf("%s did not end when asked to", s.cmd.Path)
}

// await calls ready every few milliseconds until it says so, the service ends, or half a
// minute passed.
func (s *service) await(ctx context.Context, ready func() bool) error {
	late := time.After(30 * time.Second)
	for !ready() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return fmt.Errorf("%s: ended at its start: %s", s.cmd.Path, s.cmd.ProcessState)
		case <-late:
			return fmt.Errorf("%s: not ready", s.cmd.Path)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// have reports whether a program is there.
func have(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
