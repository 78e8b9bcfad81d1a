package keeper

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// stream is a connection on which step bytes come at once. With the n-th such piece come as
// many descriptors as the two lowest bits of the n-th byte of fds say, in the way of the
// kernel. Its third bit says that they cannot be opened here.
type stream struct {
	bytes []byte
	step  int
	fds   []byte
	read  int
	given []int
}

func (s *stream) ReadMsgUnix(p, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	if s.read == len(s.bytes) {
		return 0, 0, 0, nil, io.EOF
	}
	var sent byte
	if piece := s.read / s.step; s.read%s.step == 0 && piece < len(s.fds) {
		sent = s.fds[piece]
	}
	end := min(len(s.bytes), (s.read/s.step+1)*s.step)
	n = copy(p, s.bytes[s.read:end])
	s.read += n
	if sent&3 == 0 {
		return n, 0, 0, nil, nil
	}
	if sent&4 != 0 {
		return n, 0, unix.MSG_CTRUNC, nil, nil
	}
	var fds []int
	for range min(int(sent&3), (len(oob)-unix.CmsgLen(0))/4) {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return n, 0, 0, nil, err
		}
		fds = append(fds, fd)
	}
	s.given = append(s.given, fds...)
	if len(fds) < int(sent&3) {
		flags = unix.MSG_CTRUNC
	}
	return n, copy(oob, unix.UnixRights(fds...)), flags, nil, nil
}

// sink is a connection that keeps what is sent.
type sink struct {
	bytes.Buffer
	fds []int
}

func (s *sink) WriteMsgUnix(p, oob []byte, _ *net.UnixAddr) (n, oobn int, err error) {
	if s.fds, err = rights(oob); err != nil {
		return 0, 0, err
	}
	n, err = s.Write(p)
	return n, len(oob), err
}

// FuzzReceive decodes messages: what is decoded can be sent again, and descriptors that come
// are with the message or closed.
func FuzzReceive(f *testing.F) {
	put := []byte{1, kindPut, flagFD, 1, 2, 0, 0, 0, 'x', 'y', 'z'}
	for _, fds := range [][]byte{nil, {1}, {2}, {4 + 1}, {0, 1}, {1, 1}, {0, 4 + 1}} {
		f.Add(put, byte(8), fds)
		f.Add(put, byte(3), fds)
		f.Add(put, byte(100), fds)
	}
	f.Add([]byte{1, kindPing, 0, 0, 0, 0, 0, 0}, byte(1), []byte{})
	f.Add([]byte{1, kindGet, 0, 0, 0, 0, 0, 0, 1, kindDone, 0, 0, 0, 0, 0, 0}, byte(9), []byte{})
	f.Add([]byte{1, kindDelete, 0, 0, 5, 0, 0, 0, 1, 'a', 2, 'b', 'c'}, byte(50), []byte{})
	f.Add([]byte{1, kindDelete, 0, 0, 3, 0, 0, 0, 1, 'a', 2}, byte(50), []byte{})
	f.Add([]byte{1, kindRefused, 0, 4, 2, 0, 0, 0, 'f', 'u', 'l', 'l', 'n', 'o'}, byte(50), []byte{})
	f.Add([]byte{1, kindPut, 0, 1, 1, 0, 16, 0, 'x'}, byte(50), []byte{})
	f.Add([]byte{2, 200, 255, 255, 0, 0, 0, 0}, byte(50), []byte{1})
	f.Fuzz(func(t *testing.T, p []byte, step byte, fds []byte) {
		in := &stream{bytes: p, step: max(1, int(step)), fds: fds}
		m, err := receive(in)
		if err == nil {
			checkSame(t, m, p[:in.read])
			checkRequest(t, m)
		} else if m.fd >= 0 {
			t.Errorf("with %v a descriptor is returned", err)
		}
		m.close()
		for _, fd := range in.given {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				t.Errorf("descriptor %d is left open", fd)
			}
		}
	})
}

// checkSame sends m again.
func checkSame(t *testing.T, m message, p []byte) {
	t.Helper()
	var out sink
	if err := send(&out, m); err != nil {
		t.Fatalf("send: %v", err)
	}
	if !bytes.Equal(out.Bytes(), p) {
		t.Errorf("received %x, sent again %x", p, out.Bytes())
	}
	if has := m.fd >= 0; has != (len(out.fds) == 1) || (has || m.lost) != (m.flags&flagFD != 0) {
		t.Errorf("flags %#x, descriptor %d (lost: %v), sent again with %v", m.flags, m.fd, m.lost, out.fds)
	}
}

// checkRequest has the keeper look at m.
func checkRequest(t *testing.T, m message) {
	t.Helper()
	if m.checkRequest() != nil || m.kind != kindDelete {
		return
	}
	if names, err := unpackNames(m.data); err == nil && !bytes.Equal(packNames(names), m.data) {
		t.Errorf("names %x, packed again %x", m.data, packNames(names))
	}
}
