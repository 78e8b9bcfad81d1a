package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// maxLog is the size in bytes at which the log begins anew; what was is in node.log.1.
	maxLog = 8 << 20
	// maxLine bounds one line in bytes; errors quote what peers said.
	maxLine = 16 << 10
)

// logFile is a log of bounded size: when the file would exceed max bytes, its content goes to
// path.1, which is replaced, and it begins anew. The file itself stays the same, because the
// standard error of the process may be open on it too. It is safe for concurrent use.
type logFile struct {
	mu  sync.Mutex
	f   *os.File
	max int64
}

func openLog(path string, limit int64) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logFile{f: f, max: limit}, nil
}

// Write appends p, which should be a line; one that is too long loses its end.
func (l *logFile) Write(p []byte) (int, error) {
	line := p
	if len(line) > maxLine {
		line = append(append([]byte(nil), p[:maxLine]...), " ...\n"...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size()+int64(len(line)) > l.max {
		err = l.turn(info.Size())
	}
	_, werr := l.f.Write(line)
	if err := errors.Join(err, werr); err != nil {
		return 0, err
	}
	return len(p), nil
}

// turn moves the content to the older file and empties this one, whether that works or not.
func (l *logFile) turn(size int64) error {
	old, err := os.OpenFile(l.f.Name()+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		_, err = io.Copy(old, io.NewSectionReader(l.f, 0, min(size, l.max)))
		err = errors.Join(err, old.Close())
	}
	return errors.Join(err, l.f.Truncate(0))
}

// Close closes the file.
func (l *logFile) Close() error { return l.f.Close() }

// tail returns what was written to the log at path after its first from bytes, at most the
// last n bytes of it.
func tail(path string, from, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Size() <= from {
		return ""
	}
	from = max(from, info.Size()-n)
	p := make([]byte, info.Size()-from)
	got, _ := f.ReadAt(p, from)
	return string(p[:got])
}

// sizeOf returns the size of the file at path, 0 if it is not there.
func sizeOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
