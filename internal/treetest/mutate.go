package treetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Changes sum up what [Mutate] did.
type Changes struct {
	Edited, Rewritten, Removed, Added int   // regular files
	Bytes                             int64 // written
}

// Mutate makes the next version of the tree at dir: of percent of its regular files, chosen
// by seed, at least one, two in five get a few bytes inserted in the middle (or replaced
// there, in files above 8 MiB), one is written anew, one is removed and one gets a new
// neighbour. Mtimes move forward by an amount that seed decides, so equal trees stay equal.
func Mutate(dir string, percent float64, seed uint64) (Changes, error) {
	var files []string
	err := eachName(dir, func(dirfd int, name, path string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return Changes{}, fmt.Errorf("mutate %s: %w", dir, err)
	}
	if len(files) == 0 {
		return Changes{}, nil
	}
	m := &mutator{r: rand.New(rand.NewPCG(seed, 2))}
	m.pool = newPool(m.r)
	n := max(1, int(float64(len(files))*percent/100+0.5))
	for i, at := range m.r.Perm(len(files))[:n] {
		if err := m.change(i, filepath.Join(dir, files[at])); err != nil {
			return m.done, fmt.Errorf("mutate %s: %w", dir, err)
		}
	}
	return m.done, nil
}

type mutator struct {
	r    *rand.Rand
	pool []byte
	done Changes
}

// change makes the i-th change, to the file path. Every one of five in a row is another.
func (m *mutator) change(i int, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	later := fi.ModTime().Add(time.Duration(1 + m.r.Int64N(int64(1000*time.Hour))))
	parent := filepath.Dir(path)
	switch i % 5 {
	case 1:
		m.done.Rewritten++
		err = m.write(path, fi.Size(), fi.Mode())
	case 3:
		m.done.Removed++
		return errors.Join(os.Remove(path), lutimes(parent, later))
	case 4:
		m.done.Added++
		path = filepath.Join(parent, fmt.Sprintf("added-%d-%x", i, m.r.Uint32()))
		err = m.write(path, fi.Size(), fi.Mode())
		err = errors.Join(err, lutimes(parent, later))
	default:
		m.done.Edited++
		err = m.edit(path, fi.Size())
	}
	return errors.Join(err, lutimes(path, later))
}

func (m *mutator) write(path string, size int64, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode.Perm())
	if err != nil {
		return err
	}
	size = max(size, 1)
	m.done.Bytes += size
	err = copyContent(f, &contents{m.r, m.pool, 0.2, size}, make([]byte, copySize))
	return errors.Join(err, f.Close())
}

// edit inserts some bytes in the middle of a file.
func (m *mutator) edit(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	news := make([]byte, 16+m.r.IntN(240))
	fill(news, m.r, m.pool, 0.2)
	middle := size / 2
	if size <= 8<<20 {
		tail, rerr := io.ReadAll(io.NewSectionReader(f, middle, size-middle))
		news, err = append(news, tail...), rerr
	}
	if err == nil {
		_, err = f.WriteAt(news, middle)
	}
	m.done.Bytes += int64(len(news))
	return errors.Join(err, f.Close())
}

// lutimes sets the times of path, not following a symlink.
func lutimes(path string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}
