package fusefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A request begins with its length, opcode and number (struct fuse_in_header), an answer with its
// length, error and that number (struct fuse_out_header), all in the byte order of the machine.
const (
	inHeader  = 40 // bytes
	outHeader = 16
	inOpcode  = 4 // offsets
	inUnique  = 8
	inSize    = 56 // of READ and READDIR (struct fuse_read_in)
	outError  = 4
	outUnique = 8

	// Kinds of requests (include/uapi/linux/fuse.h).
	fuseForget      = 2
	fuseRead        = 15
	fuseReadDir     = 28
	fuseInterrupt   = 36
	fuseBatchForget = 42
)

const (
	// maxRequest is what the kernel wants to have room for: a WRITE, though it never sends one.
	maxRequest = maxRead + minBuffer
	// smallAnswer is room for any answer but those to READ and READDIR, the longest of which is
	// the value of an xattr.
	smallAnswer = 64<<10 + 4096
	// answerAlign is what the bytes that are read are aligned to.
	answerAlign = 4096
)

// A loop answers the requests of a connection to the kernel. It is not that of package fuse, for
// it can be stopped without the loss of a request: it reads from a descriptor of its own, which
// [loop.stop] puts another file in the place of, while answers go on to the other one.
//
// As many goroutines read and answer as there are requests under way, and one more that waits;
// some of those that have answered wait with it.
type loop struct {
	protocol *fuse.ProtocolServer
	log      *slog.Logger
	to       int // to write answers to; not the loop's
	patience int // how many wait for requests, at most

	silent   atomic.Bool    // nothing is answered any more
	serving  sync.WaitGroup // the goroutines
	requests sync.Pool      // of *[]byte, to read into
	answers  [bits.UintSize]sync.Pool

	mu      sync.Mutex
	from    int // to read from; -1 when that has ended
	waiting int
	failing bool                // whoever waits for an answer has got an error
	open    map[uint64]struct{} // requests that are not answered, by their numbers
}

// newLoop returns a loop for the connection fd.
func newLoop(fs fuse.RawFileSystem, log *slog.Logger, fd int) (*loop, error) {
	from, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("second descriptor: %w", err)
	}
	return &loop{
		protocol: fuse.NewProtocolServer(fs, contentOptions(log)),
		log:      log, from: from, to: fd, patience: min(max(runtime.GOMAXPROCS(0), 2), 16),
		requests: sync.Pool{New: func() any { p := make([]byte, maxRequest); return &p }},
		open:     map[uint64]struct{}{},
	}, nil
}

// run answers requests until the connection ends or stop is called.
func (l *loop) run() {
	l.serving.Go(l.serve)
	l.serving.Wait()
	l.close()
}

// close closes what is read from.
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = unix.Close(l.from)
	l.from = -1
}

// stop lets nothing be read any more, of which run returns once all that was read is answered.
func (l *loop) stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from < 0 {
		return nil
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("stop reading: %w", err)
	}
	err = unix.Dup3(null, l.from, unix.O_CLOEXEC)
	return errors.Join(err, unix.Close(null), interruptThreads())
}

// interruptThreads has threads that wait in a system call begin it anew, and so find out what a
// descriptor means by now: the runtime sends SIGURG all the time, after which calls are restarted
// (signal(7), SA_RESTART).
func interruptThreads() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, e := range threads {
		tid, err := strconv.Atoi(e.Name())
		if err == nil {
			err = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // which has ended
			return fmt.Errorf("interrupt thread %s: %w", e.Name(), err)
		}
	}
	return nil
}

// fail answers with an error what is not answered, and what is read yet.
func (l *loop) fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = true
	for unique := range l.open {
		l.write(failure(make([]byte, outHeader), unique))
	}
}

// serve answers requests as long as others do not wait for them already.
func (l *loop) serve() {
	for {
		request, err := l.next()
		switch {
		case errors.Is(err, unix.ENOENT): // it was taken back
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ECONNABORTED): // the end
			l.interruptAll()
			return
		case err != nil:
			l.log.Error("cannot read what the kernel asks for", slog.Any("err", err))
			return
		case request == nil:
			return
		default:
			l.answer(request)
		}
	}
}

// next waits for a request. Without an error, nil says that enough others wait, or that nothing
// is to be read any more.
func (l *loop) next() ([]byte, error) {
	l.mu.Lock()
	if l.waiting >= l.patience {
		l.mu.Unlock()
		return nil, nil
	}
	l.waiting++
	from := l.from // stays open, as this runs
	l.mu.Unlock()
	p := l.requests.Get().(*[]byte) //nolint:forcetypeassert // what New makes
	defer l.requests.Put(p)
	n, err := unix.Read(from, *p)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(from, *p)
	}
	l.mu.Lock()
	l.waiting--
	alone := l.waiting == 0
	l.mu.Unlock()
	if err != nil || n < inHeader {
		return nil, err
	}
	if alone {
		l.serving.Go(l.serve)
	}
	return bytes.Clone((*p)[:n]), nil
}

func (l *loop) answer(request []byte) {
	opcode := binary.NativeEndian.Uint32(request[inOpcode:])
	unique := binary.NativeEndian.Uint64(request[inUnique:])
	if opcode == fuseForget || opcode == fuseBatchForget || opcode == fuseInterrupt {
		var buf [outHeader]byte
		n, _ := l.protocol.HandleRequest([][]byte{request}, [][]byte{buf[:]})
		l.write(buf[:n])
		return
	}
	size := smallAnswer
	if len(request) >= inSize+4 && (opcode == fuseRead || opcode == fuseReadDir) {
		size = int(binary.NativeEndian.Uint32(request[inSize:]))
	}
	buf, free := l.buffer(size)
	defer free()
	if !l.enter(unique) {
		l.write(failure(buf, unique))
		return
	}
	defer l.leave(unique)
	n, status := l.protocol.HandleRequest([][]byte{request}, [][]byte{buf})
	if n == 0 && status != fuse.OK {
		l.write(failure(buf, unique))
		return
	}
	l.write(buf[:n])
}

// buffer returns room for an answer with size bytes, which begin at an address that is a multiple
// of answerAlign, and what gives it back.
func (l *loop) buffer(size int) (buf []byte, free func()) {
	class := bits.Len(uint(max(size, answerAlign) - 1)) // of the power of two
	p, ok := l.answers[class].Get().(*[]byte)
	if !ok {
		made := make([]byte, answerAlign+1<<class)
		p = &made
	}
	return (*p)[answerAlign-outHeader:][:outHeader+size], func() { l.answers[class].Put(p) }
}

// enter notes that a request waits for its answer; false says that it shall have an error.
func (l *loop) enter(unique uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failing {
		l.open[unique] = struct{}{}
	}
	return !l.failing
}

func (l *loop) leave(unique uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, unique)
}

// write sends an answer. One that nobody waits for is no error.
func (l *loop) write(answer []byte) {
	if len(answer) == 0 || l.silent.Load() {
		return
	}
	_, err := unix.Write(l.to, answer)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		l.log.Error("the kernel does not take an answer", slog.Any("err", err))
	}
}

// failure makes the answer EIO in buf.
func failure(buf []byte, unique uint64) []byte {
	binary.NativeEndian.PutUint32(buf, outHeader)
	binary.NativeEndian.PutUint32(buf[outError:], ^uint32(unix.EIO)+1) // -EIO
	binary.NativeEndian.PutUint64(buf[outUnique:], unique)
	return buf[:outHeader]
}

// interruptAll ends what is under way, for the connection has ended: nobody waits for it.
func (l *loop) interruptAll() {
	l.mu.Lock()
	l.failing = true
	var open []uint64
	for unique := range l.open {
		open = append(open, unique)
	}
	l.mu.Unlock()
	for _, unique := range open {
		var msg [inHeader + 8]byte // struct fuse_interrupt_in
		var buf [outHeader]byte
		binary.NativeEndian.PutUint32(msg[:], uint32(len(msg)))
		binary.NativeEndian.PutUint32(msg[inOpcode:], fuseInterrupt)
		binary.NativeEndian.PutUint64(msg[inUnique:], unique|1) // as the kernel numbers them
		binary.NativeEndian.PutUint64(msg[inHeader:], unique)
		_, _ = l.protocol.HandleRequest([][]byte{msg[:]}, [][]byte{buf[:]})
	}
}
