package keeper

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// patient is a connection on which a message, once begun, must come and go in time.
type patient struct {
	*net.UnixConn
	patience time.Duration
	begun    bool // a byte of the message under way has come
}

// ReadMsgUnix limits the time for the rest of a message when its first bytes have come.
func (p *patient) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, oobn, flags, addr, err = p.UnixConn.ReadMsgUnix(b, oob)
	if n > 0 && !p.begun && err == nil {
		p.begun = true
		err = p.SetReadDeadline(time.Now().Add(p.patience))
	}
	return n, oobn, flags, addr, err
}

// next receives a message, however long it is until it begins.
func (p *patient) next() (message, error) {
	p.begun = false
	if err := p.SetReadDeadline(time.Time{}); err != nil {
		return message{fd: -1}, err
	}
	return receive(p)
}

func (p *patient) send(m message) error {
	if err := p.SetWriteDeadline(time.Now().Add(p.patience)); err != nil {
		return err
	}
	return send(p, m)
}

// talk answers requests until the client ends the connection, or has to be parted with, of
// which it is told as far as it listens.
func (k *keeper) talk(conn *net.UnixConn) error {
	p := &patient{UnixConn: conn, patience: k.patience}
	if err := checkPeer(conn); err != nil {
		return errors.Join(err, p.send(refusalOf(err)))
	}
	for {
		m, err := p.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET) && !p.begun:
			return nil // an answer that was not read resets the connection
		case errors.Is(err, errs.ErrFormat), errors.Is(err, errs.ErrFull):
			return errors.Join(err, p.send(refusalOf(err)))
		case err != nil:
			return err
		}
		if err := k.answer(p, m); err != nil {
			return err
		}
	}
}

// answer does what m asks for and answers it. An error ends the connection.
func (k *keeper) answer(p *patient, m message) error {
	defer m.close()
	err := k.do(p, &m)
	switch {
	case err == nil:
		return p.send(newMessage(kindDone))
	case errors.Is(err, errs.ErrFormat):
		return errors.Join(err, p.send(refusalOf(err)))
	case errors.Is(err, errs.ErrFull), errors.Is(err, errors.ErrUnsupported):
		k.log.Warn("a request is refused", "error", err)
		return p.send(refusalOf(err))
	}
	return err
}

// do does what m asks for, and sends all of the answer but its end.
func (k *keeper) do(p *patient, m *message) error {
	gone := func() bool { return hungUp(p.UnixConn) }
	if m.version != version || m.kind < kindPing || m.kind > kindDelete {
		return fmt.Errorf("request of version %d, kind %d: %w", m.version, m.kind, errors.ErrUnsupported)
	}
	if err := m.checkRequest(); err != nil {
		return err
	}
	switch m.kind {
	case kindPut:
		if m.lost {
			return fmt.Errorf("put %q: the keeper did not get the descriptor, too many are open: %w", m.name, errs.ErrFull)
		}
		return k.table.put(&held{name: m.name, data: m.data, fd: m.takeFD()}, gone)
	case kindGet:
		return k.sendItems(p)
	case kindDelete:
		names, err := unpackNames(m.data)
		if err != nil {
			return err
		}
		return k.table.delete(names, gone)
	}
	return nil
}

// checkRequest fails unless m has the parts that its kind has.
func (m *message) checkRequest() error {
	named, filled, fd := m.name != "", len(m.data) > 0, m.flags&flagFD != 0
	put := m.kind == kindPut
	if m.flags&^flagFD != 0 || named != put || (fd && !put) || (filled && !put && m.kind != kindDelete) {
		return fmt.Errorf("request of kind %d: flags %#x, a name of %d bytes, %d bytes of data: %w",
			m.kind, m.flags, len(m.name), len(m.data), errs.ErrFormat)
	}
	return nil
}

func (k *keeper) sendItems(p *patient) error {
	items := k.table.snapshot()
	defer k.table.release(items...)
	for _, h := range items {
		m := newMessage(kindItem)
		m.name, m.data, m.fd = h.name, h.data, h.fd
		if err := p.send(m); err != nil {
			return fmt.Errorf("send %q: %w", h.name, err)
		}
	}
	return nil
}
