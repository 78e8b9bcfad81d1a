package mount

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// tableWatch calls a function whenever the mount table of this process has changed.
type tableWatch struct {
	table *os.File
	wake  int // eventfd; written to when the watch is to end
	wg    sync.WaitGroup
}

// watchTable begins to watch. The kernel reports changes to who polls the table
// (proc_pid_mounts(5)).
func watchTable(changed func()) (*tableWatch, error) {
	// Not through package os, whose files may not be polled for priority events.
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch the mount table: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the mount table: %w", err), unix.Close(fd))
	}
	w := &tableWatch{table: os.NewFile(uintptr(fd), "mountinfo"), wake: wake}
	w.wg.Go(func() {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(wake), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, -1)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil || fds[1].Revents != 0:
				return
			case n > 0:
				changed()
			}
		}
	})
	return w, nil
}

// close ends the watch, and waits for a call under way.
func (w *tableWatch) close() {
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	w.wg.Wait()
	_ = unix.Close(w.wake)
	_ = w.table.Close()
}
