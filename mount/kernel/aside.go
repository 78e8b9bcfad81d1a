package kernel

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// aside calls f on a thread that has descriptors of its own, without those that are open now.
//
// A system call that mounts waits for answers that this process itself has to give. If the process
// is killed meanwhile, the thread stays until somebody else answers; with the descriptors of the
// process it would keep the connection to the kernel, and locks, for ever.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			aside(f) // on another, for the main thread does not end
			runtime.UnlockOSThread()
			return
		}
		// Where it is forbidden the thread is like any other.
		if unix.Unshare(unix.CLONE_FILES) == nil {
			closeInherited()
		}
		f()
	}()
	<-done
}

// closeInherited closes all descriptors of the thread but those of the Go runtime, which it may
// use on any thread, and standard error.
func closeInherited() {
	const dir = "/proc/thread-self/fd/"
	list, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		switch what, _ := os.Readlink(dir + e.Name()); what {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
		default:
			_ = unix.Close(fd) // that of dir is closed already
		}
	}
}
