package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstHanded is the first descriptor that a service manager hands over (SD_LISTEN_FDS_START).
const firstHanded = 3

// managerEnv are the variables by which a service manager speaks to a service: sd_listen_fds(3),
// sd_notify(3), sd_watchdog_enabled(3).
var managerEnv = []string{
	"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
}

// manager is the service manager, as far as there is one; the zero value is none.
type manager struct {
	files    []*os.File    // handed over
	notify   string        // socket to tell it what happens; "" is none
	watchdog time.Duration // it wants to hear something so often; 0 is never
}

// takeManager reads the environment, once: neither programs that this process starts nor
// another Run should take it for theirs.
func takeManager() *manager {
	env := map[string]string{}
	for _, name := range managerEnv {
		env[name] = os.Getenv(name)
		_ = os.Unsetenv(name) // fails for impossible names alone
	}
	pid := strconv.Itoa(os.Getpid())
	m := &manager{notify: env["NOTIFY_SOCKET"]}
	if p := env["WATCHDOG_PID"]; p == "" || p == pid {
		if usec, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64); err == nil && usec > 0 {
			m.watchdog = time.Duration(min(usec, int64(24*time.Hour/time.Microsecond))) * time.Microsecond
		}
	}
	if env["LISTEN_PID"] == pid {
		m.take(env["LISTEN_FDS"], strings.Split(env["LISTEN_FDNAMES"], ":"))
	}
	return m
}

// take takes count descriptors over.
func (m *manager) take(count string, names []string) {
	n, err := strconv.Atoi(count)
	for i := 0; err == nil && i < n; i++ {
		fd := firstHanded + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return // it said more than it gave
		}
		name := "descriptor " + strconv.Itoa(fd)
		if i < len(names) && names[i] != "" {
			name += " (" + names[i] + ")"
		}
		m.files = append(m.files, os.NewFile(uintptr(fd), name))
	}
}

// listener returns the socket that was handed over, nil if none was. It must be the one
// where clients look for the service.
func (m *manager) listener(d Dirs) (*net.UnixListener, error) {
	if len(m.files) == 0 {
		return nil, nil
	}
	if len(m.files) > 1 {
		return nil, fmt.Errorf("socket activation: %d descriptors were handed over, want one socket: %w", len(m.files), fs.ErrInvalid)
	}
	f := m.files[0]
	if !listens(f) {
		return nil, fmt.Errorf("socket activation: %s is no unix stream socket that listens: %w", f.Name(), fs.ErrInvalid)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket activation: %s: %w", f.Name(), err)
	}
	if at := ln.Addr().String(); !samePath(at, d.socket()) {
		return nil, errors.Join(fmt.Errorf("socket activation: the socket is %s, but clients look for %s: let ListenStream be that, or set %s: %w",
			at, d.socket(), EnvState, fs.ErrInvalid), ln.Close())
	}
	return ln.(*net.UnixListener), nil //nolint:forcetypeassert // listens saw to it
}

func samePath(a, b string) bool {
	return filepath.Base(a) == filepath.Base(b) && resolve(filepath.Dir(a)) == resolve(filepath.Dir(b))
}

// listens reports whether f is a listening unix stream socket.
func listens(f *os.File) bool {
	for _, want := range []struct{ option, value int }{
		{unix.SO_DOMAIN, unix.AF_UNIX}, {unix.SO_TYPE, unix.SOCK_STREAM}, {unix.SO_ACCEPTCONN, 1},
	} {
		if v, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, want.option); err != nil || v != want.value {
			return false
		}
	}
	return true
}

// close closes what was handed over; a listener is a copy.
func (m *manager) close() {
	for _, f := range m.files {
		_ = f.Close() // the service manager has it still
	}
}
