package node

import (
	"context"
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

	"github.com/zosfs/zosfs/internal/credentials"
)

const (
	// envStarter tells a service which descriptor its starter listens on.
	envStarter = "ZOSFS_NODE_STARTER"
	// saidReady and saidFailed are what a service tells its starter; a text follows the latter.
	saidReady  = "ready\n"
	saidFailed = "failed\n"
	// maxSaid bounds what a starter reads, in bytes.
	maxSaid = 64 << 10
)

// StartDetached starts this program with args, which must come to [Run], as a service in the
// background: in a session of its own, with d as its directories, and d.State/node.log as its
// log and standard error. It returns nil when a service answers, be it this one or one that was
// faster, else the error of the service. The token and the hub in the environment are not
// passed on: they are for one mount, not for the life of a service ([MountRequest].Token is).
func StartDetached(ctx context.Context, d Dirs, args []string) error {
	d, err := d.abs()
	if err == nil {
		err = d.prepare()
	}
	if err != nil {
		return fmt.Errorf("start node service: %w", err)
	}
	err = start(ctx, d, args)
	if err == nil || Dial(d).Ping(ctx) == nil {
		return nil
	}
	return fmt.Errorf("start node service: %w", err)
}

func start(ctx context.Context, d Dirs, args []string) (err error) {
	from, err := sizeOf(d.logFile())
	if err != nil {
		return err
	}
	log, err := openLog(d.logFile(), maxLog)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	cmd, err := command(ctx, d, args)
	if err == nil {
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log.f, log.f, []*os.File{theirs}
		err = cmd.Start()
	}
	if err = errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	said, err := listenTo(ctx, ours)
	switch {
	case err != nil:
		return errors.Join(err, kill(cmd))
	case said == saidReady:
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	if text, ok := strings.CutPrefix(said, saidFailed); ok {
		return parseSaid(text)
	}
	return fmt.Errorf("%w before it was ready; at the end of %s: %s", died(err), d.logFile(), strings.TrimSpace(tail(d.logFile(), from, 2048)))
}

// command returns the command that starts the service.
func command(ctx context.Context, d Dirs, args []string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The service outlives ctx.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe, args...)
	cmd.Dir = "/" // so that it holds no file system
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	own := append([]string{EnvCache, EnvState, envStarter, credentials.EnvToken, credentials.EnvHub, credentials.EnvFile}, managerEnv...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(own, name)
	})
	cmd.Env = append(cmd.Env, EnvCache+"="+d.Cache, EnvState+"="+d.State, envStarter+"=3")
	if path := os.Getenv(credentials.EnvFile); path != "" {
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, credentials.EnvFile+"="+path)
	}
	return cmd, nil
}

// listenTo returns what the service says until it closes its end.
func listenTo(ctx context.Context, r *os.File) (string, error) {
	unhook := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer unhook()
	p, err := io.ReadAll(io.LimitReader(r, maxSaid))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return string(p), err
}

func kill(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // it was killed
	return nil
}

func died(err error) error {
	if err == nil {
		return errors.New("the service ended")
	}
	return fmt.Errorf("the service died: %w", err)
}

// parseSaid makes an error of what a service says that it failed with: names of kinds in the
// first line, then the text.
func parseSaid(s string) error {
	names, text, _ := strings.Cut(s, "\n")
	return &Error{Info: ErrorInfo{Message: strings.TrimSpace(text), Kinds: strings.Fields(names)}}
}

// starter is who started this process as a service and waits for it to be ready; nil is nobody.
type starter struct{ pipe *os.File }

// takeStarter returns the starter, once: neither programs that this process starts nor another
// Run should speak to it.
func takeStarter() *starter {
	s := os.Getenv(envStarter)
	if s == "" {
		return nil
	}
	_ = os.Unsetenv(envStarter)
	fd, err := strconv.Atoi(s)
	if err != nil || fd < 3 {
		return nil
	}
	unix.CloseOnExec(fd)
	return &starter{os.NewFile(uintptr(fd), "starter")}
}

// ready tells the starter that the service answers.
func (s *starter) ready() {
	if s != nil {
		s.say(saidReady)
	}
}

// failed tells the starter why the service cannot run, if it waits still.
func (s *starter) failed(err error) {
	if s == nil || err == nil {
		return
	}
	_, body := encodeError(err)
	s.say(saidFailed + strings.Join(body.Error.Kinds, " ") + "\n" + body.Error.Message)
}

func (s *starter) say(text string) {
	if s.pipe == nil {
		return
	}
	_, _ = s.pipe.WriteString(text) // the starter may have gone
	_ = s.pipe.Close()
	s.pipe = nil
}
