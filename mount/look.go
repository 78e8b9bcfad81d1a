package mount

import (
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
)

// Beneath returns the directories inside dir where something is mounted, of zosfs or not, in the
// order of the mount table. While there is one, dir cannot be unmounted.
func Beneath(dir string) ([]string, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	table, err := readTable()
	if err != nil {
		return nil, err
	}
	var inside []string
	for _, e := range table {
		if strings.HasPrefix(e.dir, strings.TrimSuffix(dir, "/")+"/") {
			inside = append(inside, e.dir)
		}
	}
	return inside, nil
}

// answerTime is how long whoever serves a mount may take to answer.
const answerTime = time.Second

// Served reports whether a process answers for the mount. In mode Kernel names are there without
// one; what is asked for is the content device.
func Served(m Info) bool {
	if m.Mode != Kernel {
		return answers(m.Dir)
	}
	name := strings.TrimSuffix(filepath.Base(m.Image), kernel.Suffix) // as its device is called
	table, err := readTable()
	if err != nil {
		return true // not known
	}
	for _, e := range table {
		if e.fstype == "fuse."+fusefs.ContentSubtype && answers(filepath.Join(e.dir, name)) {
			return true
		}
	}
	return false
}

// answers asks for the file system that path lies on, aside, for that may take for ever.
func answers(path string) bool {
	ch := make(chan error, 1)
	go func() { // ends with the answer
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if err == nil {
			err = unix.Statfs(path, new(unix.Statfs_t)) // the kernel may know the file, this it asks for
		}
		ch <- err
	}()
	late := time.NewTimer(answerTime)
	defer late.Stop()
	select {
	case err := <-ch:
		return err == nil
	case <-late.C:
		return false
	}
}
