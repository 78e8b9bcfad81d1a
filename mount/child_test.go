package mount_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/store/storetest"
)

// hostEnv makes the test binary have a Host; its value is a job.
const hostEnv = "ZOSFS_TEST_HOST"

// job says what a process with a Host does. It prints a handover when reads are answered, and
// "stalled" for each Get that stalls. Then it obeys lines on its standard input: "abandon"
// makes it end at once, "close" after it has unmounted everything.
type job struct {
	Content, Images, Store string
	Cache                  string // "" keeps what is in flight alone
	CacheSize              int64
	Mounts                 []place
	Stall                  int  // the first Get that never ends; 0 is none
	NoImages               bool // images cannot be opened
	Resume                 *handover
	Rung                   kernel.Rung
	Group                  string // file to write its process id to, first of all
}

// place is what is mounted where. Gone says that it is not there any more.
type place struct {
	Flist, Dir string
	Gone       bool
}

// handover is what one process leaves to the next, beside the descriptor.
type handover struct {
	Connection fusefs.Connection
	Kernel     []adopted
}

type adopted struct {
	Dev  uint64
	Rung kernel.Rung
	Size int64
}

// runHost does the job.
func runHost(text string) error {
	j := &hostRunner{}
	if err := json.Unmarshal([]byte(text), &j.job); err != nil {
		return err
	}
	if err := enterGroup(j.Group); err != nil {
		return err
	}
	if err := errors.Join(j.openStore(), j.openHost()); err != nil {
		return err
	}
	out := handover{Connection: j.host.Connection()}
	for i, p := range j.Mounts {
		m, err := j.mount(i, p)
		if err != nil {
			return fmt.Errorf("mount %d: %w", i, err)
		}
		j.mounts = append(j.mounts, m)
		var a adopted
		a.Dev, a.Rung, a.Size = m.Kernel()
		out.Kernel = append(out.Kernel, a)
	}
	if j.Resume != nil {
		j.host.Serve()
	}
	for i, p := range j.Mounts {
		if p.Gone {
			j.mounts[i].Wait() // the kernel has closed it
		}
	}
	line, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if _, err := fmt.Printf("%s\n", line); err != nil {
		return err
	}
	return j.obey()
}

type hostRunner struct {
	job
	store  *storetest.Fault
	cache  *cache.Cache
	host   *mount.Host
	mounts []*mount.Mounted
}

func (j *hostRunner) openStore() error {
	src, err := dir.New(j.Store)
	if err != nil {
		return err
	}
	j.store = storetest.NewFault(src, func(c storetest.Call) storetest.Effect {
		if j.Stall == 0 || c.Op != storetest.Get || c.Count < j.Stall {
			return storetest.Effect{}
		}
		_, _ = fmt.Println("stalled")
		return storetest.Effect{Stall: make(chan struct{})}
	})
	if j.Cache != "" {
		j.cache, err = cache.Open(j.Cache, cache.Options{Limit: j.CacheSize})
	}
	return err
}

func (j *hostRunner) openHost() (err error) {
	o := mount.HostOptions{Content: j.Content, Images: j.Images, Rung: j.Rung, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if j.Resume == nil {
		j.host, err = mount.NewHost(o)
		return err
	}
	conn := j.Resume.Connection
	conn.FD = 3 // the first of ExtraFiles
	j.host, err = mount.ResumeHost(o, conn)
	return err
}

func (j *hostRunner) mount(i int, p place) (*mount.Mounted, error) {
	r, err := flist.Open(p.Flist, flist.OpenOptions{})
	if err != nil {
		return nil, err
	}
	o := image.Options{Deadline: -1}
	if j.cache != nil {
		o.Cache = j.cache
	}
	im, err := image.New(r, j.store, o)
	if err != nil {
		return nil, err
	}
	if j.Resume == nil {
		return mount.Mount(context.Background(), im, p.Dir, mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return j.host, nil }})
	}
	k := j.Resume.Kernel[i]
	if j.NoImages {
		im = nil
	}
	m, err := j.host.Adopt(im, r.Digest(), k.Size, p.Dir, k.Dev, k.Rung)
	if p.Gone != errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("adopt: %w, want gone = %v", err, p.Gone)
	}
	if p.Gone {
		err = nil
	}
	return m, err
}

func (j *hostRunner) obey() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	switch lines.Text() {
	case "abandon":
		j.host.Abandon(context.Background())
		return nil
	case "close":
		var failed []error
		for _, m := range j.mounts {
			failed = append(failed, m.Unmount(context.Background(), false))
			m.Wait()
		}
		return errors.Join(append(failed, j.host.Close(context.Background()))...)
	}
	return errors.New("the test has ended")
}

// hostProcess is a process that does a job.
type hostProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
	early int // how often it said "stalled" before it was ready
}

// startHost starts a process; fd is what was handed over, if anything was.
func startHost(t *testing.T, j job, fd *os.File) (*hostProcess, handover) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	p := &hostProcess{cmd: exec.CommandContext(t.Context(), "/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), hostEnv+"="+string(text))
	p.cmd.Stderr = t.Output()
	if fd != nil {
		p.cmd.ExtraFiles = []*os.File{fd}
	}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.lines = bufio.NewReader(out)
	var h handover
	for { // reads that waited may stall before it is ready
		line, err := p.lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("the host ends: %v", err)
		}
		if string(line) == "stalled\n" {
			p.early++
			continue
		}
		if err := json.Unmarshal(line, &h); err != nil {
			t.Fatalf("the host says %q: %v", line, err)
		}
		return p, h
	}
}

// stalled waits for a read that will not be answered.
func (p *hostProcess) stalled(t *testing.T) {
	t.Helper()
	if p.early > 0 {
		return
	}
	if line, err := p.lines.ReadString('\n'); line != "stalled\n" {
		t.Fatalf("the host says %q, %v", line, err)
	}
}

func (p *hostProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// tell sends a command that ends the process, and waits for that.
func (p *hostProcess) tell(t *testing.T, command string) {
	t.Helper()
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, p.lines)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", command, err)
	}
}

// descriptor returns a copy of a descriptor of the process, as a keeper would hold.
func (p *hostProcess) descriptor(t *testing.T, fd int) *os.File {
	t.Helper()
	pid, err := unix.PidfdOpen(p.cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pid) }()
	got, err := unix.PidfdGetfd(pid, fd, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(got), "/dev/fuse")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// newJob returns a job over blobs of the store at dir, which mounts each flist at a new place.
func newJob(t *testing.T, store string, flists ...string) job {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedEROFS(t)
	work := testenv.TempDir(t)
	j := job{Content: filepath.Join(work, "content"), Images: filepath.Join(work, "images"), Store: store}
	if err := os.Mkdir(j.Content, 0o700); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, j.Content)
	for _, path := range flists {
		dir := testenv.TempDir(t)
		testenv.Mounted(t, dir)
		j.Mounts = append(j.Mounts, place{Flist: path, Dir: dir})
	}
	return j
}

// left returns which of the directories of j something is mounted at.
func (j job) left(t *testing.T) []string {
	t.Helper()
	var dirs []string
	list, err := mount.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range j.Mounts {
		if slices.ContainsFunc(list, func(m mount.Info) bool { return m.Dir == p.Dir }) {
			dirs = append(dirs, p.Dir)
		}
	}
	return dirs
}
