package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

const (
	version    = 1
	headerSize = 8
	flagFD     = 1 << 0
)

// Kinds of messages.
const (
	kindPing    = 1
	kindPut     = 2
	kindGet     = 3
	kindDelete  = 4
	kindDone    = 128
	kindItem    = 129
	kindRefused = 130
)

// message is one of either direction. A received one owns its descriptor.
type message struct {
	version, kind, flags byte
	fd                   int  // -1: none
	lost                 bool // a descriptor was sent, but this process did not get it
	name                 string
	data                 []byte // nil if empty
}

func newMessage(kind byte) message { return message{version: version, kind: kind, fd: -1} }

// takeFD returns the descriptor, which is the caller's now.
func (m *message) takeFD() int {
	fd := m.fd
	m.fd = -1
	return fd
}

// close closes the descriptor unless it was taken.
func (m *message) close() { closeFD(m.takeFD()) }

// closeFD closes fd, if it is one. There is nothing to be done about an error: Linux has
// closed it all the same.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// sender is the part of [net.UnixConn] that send needs.
type sender interface {
	io.Writer
	WriteMsgUnix(p, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
}

// send sends m, whose name and data are within the limits.
func send(w sender, m message) error {
	head := make([]byte, headerSize, headerSize+len(m.name))
	head[0], head[1], head[2], head[3] = m.version, m.kind, m.flags, byte(len(m.name))
	binary.LittleEndian.PutUint32(head[4:], uint32(len(m.data)))
	head = append(head, m.name...)
	var oob []byte
	if m.fd >= 0 {
		head[2] |= flagFD
		oob = unix.UnixRights(m.fd)
	}
	n, _, err := w.WriteMsgUnix(head, oob, nil)
	if err == nil && n < len(head) {
		_, err = w.Write(head[n:])
	}
	if err == nil && len(m.data) > 0 {
		_, err = w.Write(m.data)
	}
	return err
}

// receiver is the part of [net.UnixConn] that receive needs. Descriptors that it returns are
// close-on-exec.
type receiver interface {
	ReadMsgUnix(p, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
}

// receive reads one message of any version; the caller closes it. The end of the connection
// before its first byte is io.EOF. A message that breaks the rules is errs.ErrFormat, data
// over the limit errs.ErrFull, and the connection then of no more use, as after any error.
func receive(r receiver) (m message, err error) {
	m.fd = -1
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	var head [headerSize]byte
	if err := m.fill(r, head[:]); err != nil {
		return m, err
	}
	m.version, m.kind, m.flags = head[0], head[1], head[2]
	came := m.fd >= 0 || m.lost
	if came != (m.flags&flagFD != 0) {
		return m, fmt.Errorf("message of kind %d: descriptor sent: %v, announced: %v: %w", m.kind, came, !came, errs.ErrFormat)
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if size > MaxData {
		return m, fmt.Errorf("message of kind %d has %d bytes of data, the limit is %d: %w", m.kind, size, MaxData, errs.ErrFull)
	}
	name := make([]byte, head[3])
	if size > 0 {
		m.data = make([]byte, size)
	}
	for _, part := range [][]byte{name, m.data} {
		if err := m.body(r, part); err != nil {
			return m, err
		}
	}
	m.name = string(name)
	return m, nil
}

// body fills p with bytes that no descriptor may come with.
func (m *message) body(r receiver, p []byte) error {
	rest := message{fd: -1}
	err := rest.fill(r, p)
	if err == nil && (rest.fd >= 0 || rest.lost) {
		err = fmt.Errorf("message of kind %d: a descriptor comes after the header: %w", m.kind, errs.ErrFormat)
	}
	rest.close()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// fill fills p and sets fd and lost from what comes with it.
func (m *message) fill(r receiver, p []byte) error {
	oob := make([]byte, unix.CmsgLen(4)) // room for one descriptor, not for two
	for got := 0; got < len(p); {
		n, oobn, flags, _, err := r.ReadMsgUnix(p[got:], oob)
		if cerr := m.control(oob[:oobn], flags); cerr != nil {
			return cerr
		}
		got += n
		if errors.Is(err, io.EOF) && got > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// control takes the descriptor out of what came beside the bytes. Linux has closed what did
// not fit, and says so in flags, as it does when it could not open one here.
func (m *message) control(oob []byte, flags int) error {
	fds, err := rights(oob)
	cut := flags&unix.MSG_CTRUNC != 0
	if err == nil && len(fds) == 1 && m.fd < 0 && !m.lost && !cut {
		m.fd = fds[0]
		return nil
	}
	for _, fd := range fds {
		closeFD(fd)
	}
	switch {
	case err != nil:
		return err
	case len(fds) == 0 && cut && m.fd < 0 && !m.lost:
		m.lost = true
	case len(fds) > 0 || cut:
		return fmt.Errorf("more than one descriptor comes with a message: %w", errs.ErrFormat)
	}
	return nil
}

// rights returns the descriptors in oob.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var all []int
	for i := range messages {
		if h := messages[i].Header; h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return all, fmt.Errorf("control message: %w", err)
		}
		all = append(all, fds...)
	}
	return all, nil
}

// packNames returns the data of a delete request.
func packNames(names []string) []byte {
	var p []byte
	for _, name := range names {
		p = append(append(p, byte(len(name))), name...)
	}
	return p
}

// unpackNames is the reverse of packNames.
func unpackNames(p []byte) ([]string, error) {
	var names []string
	for len(p) > 0 {
		n := int(p[0])
		if n == 0 || n >= len(p) {
			return nil, fmt.Errorf("names to delete: one of %d bytes in %d: %w", n, len(p), errs.ErrFormat)
		}
		names = append(names, string(p[1:1+n]))
		p = p[1+n:]
	}
	return names, nil
}

// words are the kinds of refusals as the protocol has them.
var words = []struct {
	word string
	kind error
}{
	{"full", errs.ErrFull},
	{"denied", errs.ErrDenied},
	{"format", errs.ErrFormat},
	{"unsupported", errors.ErrUnsupported},
}

// refusalOf returns the answer that carries err.
func refusalOf(err error) message {
	m := newMessage(kindRefused)
	m.data = []byte(err.Error())
	for _, w := range words {
		if errors.Is(err, w.kind) {
			m.name = w.word
			break
		}
	}
	return m
}

// refusal is the error of the keeper as its client has it: the same text, the same kind.
type refusal struct {
	text string
	kind error // nil: none that this client knows
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.kind }

func parseRefusal(m message) error {
	r := &refusal{text: string(m.data)}
	for _, w := range words {
		if m.name == w.word {
			r.kind = w.kind
		}
	}
	return r
}
