package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// These are what section read does with a tree at root. Each returns the time that counts.

// timed measures a program whose output is read through a pipe and thrown away: tar does not
// read files at all when its output is /dev/null.
func timed(ctx context.Context, l *lab, env []string, args ...string) (time.Duration, error) {
	out, err := l.run(ctx, command{args: args, env: env, out: io.Discard})
	return out.wall, err
}

func walkStat(ctx context.Context, l *lab, root string) (time.Duration, error) {
	return timed(ctx, l, nil, "find", root, "-printf", `%m %U %G %n %s %T@ %l %p\n`)
}

func du(ctx context.Context, l *lab, root string) (time.Duration, error) {
	return timed(ctx, l, nil, "du", "-s", root)
}

func tar(ctx context.Context, l *lab, root string) (time.Duration, error) {
	return timed(ctx, l, nil, "tar", "-C", root, "--sort=none", "-cf", "-", ".")
}

// listXattrs asks for the names of the extended attributes of every entry. A file system
// that has none says so, as squashfs does for an image without them.
func listXattrs(ctx context.Context, _ *lab, root string) (time.Duration, error) {
	buf := make([]byte, 64<<10)
	start := time.Now()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			_, err = unix.Llistxattr(path, buf)
		}
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return err
	})
	return time.Since(start), err
}

// readFiles opens, reads and closes each file.
func readFiles(ctx context.Context, root string, names []string) (time.Duration, error) {
	buf := make([]byte, 64<<10)
	start := time.Now()
	for _, name := range names {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		fd, err := unix.Open(filepath.Join(root, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		_, err = unix.Read(fd, buf)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return 0, &fs.PathError{Op: "read", Path: name, Err: err}
		}
	}
	return time.Since(start), nil
}

// statLatency returns the median time of one lstat of files in random order.
func statLatency(_ context.Context, root string, names []string) (time.Duration, error) {
	return latency(root, names, func(path string) error {
		var st unix.Stat_t
		return unix.Lstat(path, &st)
	})
}

// openLatency returns the median time of one open and close.
func openLatency(_ context.Context, root string, names []string) (time.Duration, error) {
	return latency(root, names, func(path string) error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

// openReadLatency returns the median time of one open, read of up to 4 KiB and close.
func openReadLatency(_ context.Context, root string, names []string) (time.Duration, error) {
	buf := make([]byte, 4096)
	return latency(root, names, func(path string) error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.Read(fd, buf)
		return errors.Join(err, unix.Close(fd))
	})
}

// preadLatency returns the median time of one read of up to 4 KiB from a file that is open: one
// file and read after another.
func preadLatency(_ context.Context, root string, names []string) (time.Duration, error) {
	const reads = 200
	buf := make([]byte, 4096)
	took := make([]time.Duration, 0, reads*100)
	for _, name := range names[:min(100, len(names))] {
		path := filepath.Join(root, name)
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, &fs.PathError{Op: "latency", Path: path, Err: err}
		}
		for range reads {
			start := time.Now()
			_, rerr := unix.Pread(fd, buf, 0)
			took = append(took, time.Since(start))
			err = errors.Join(err, rerr)
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return 0, &fs.PathError{Op: "latency", Path: path, Err: err}
		}
	}
	return p50(took), nil
}

func latency(root string, names []string, op func(path string) error) (time.Duration, error) {
	r := rand.New(rand.NewPCG(1, 4))
	took := make([]time.Duration, 0, len(names))
	for _, i := range r.Perm(len(names)) {
		path := filepath.Join(root, names[i])
		start := time.Now()
		err := op(path)
		took = append(took, time.Since(start))
		if err != nil {
			return 0, &fs.PathError{Op: "latency", Path: path, Err: err}
		}
	}
	return p50(took), nil
}

// readWhole reads a file from its beginning to its end, 1 MiB at a time.
func readWhole(ctx context.Context, path string) (time.Duration, error) {
	start := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		_, err := f.Read(buf)
		if errors.Is(err, io.EOF) {
			return time.Since(start), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// readRandom reads n pieces of 4 KiB.
func readRandom(ctx context.Context, path string, n int) (time.Duration, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const piece = 4 << 10
	r := rand.New(rand.NewPCG(1, 5))
	buf := make([]byte, piece)
	start := time.Now()
	for range n {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if _, err := f.ReadAt(buf, r.Int64N(fi.Size()/piece)*piece); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// touchMapped maps a file and touches each of its pages.
func touchMapped(ctx context.Context, path string) (_ time.Duration, err error) {
	start := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Munmap(p)) }()
	var sum byte
	for i := 0; i < len(p); i += os.Getpagesize() {
		if i&(1<<24-1) == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		sum += p[i]
	}
	runtime.KeepAlive(sum) // so that the reads are not left out
	return time.Since(start), nil
}

// goVersion starts "go version" 50 times from the toolchain at root.
func goVersion(ctx context.Context, l *lab, root string) (time.Duration, error) {
	env := []string{"GOTOOLCHAIN=local", "GOFLAGS=", "GOROOT=" + root, "HOME=" + l.dir}
	var sum time.Duration
	for range 50 {
		d, err := timed(ctx, l, env, filepath.Join(root, "bin", "go"), "version")
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
