package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// line is a network link: what all connections through it share.
type line struct {
	rate  float64       // bytes a second, in each direction
	delay time.Duration // round trip
}

const (
	segment = 16 << 10  // bytes that travel as one
	queued  = 128 << 10 // bytes of a connection that wait at the link, besides those on it
)

// direction is one way of a line. Bytes leave one after another at its rate, in the order
// in which connections hand them over, and arrive half a round trip later.
type direction struct {
	line
	bytes atomic.Int64 // that have passed

	mu   sync.Mutex
	free time.Time // when the last byte that was handed over has left
}

// send takes n bytes and returns when they arrive.
func (d *direction) send(n int) time.Time {
	d.bytes.Add(int64(n))
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(n) / d.rate * float64(time.Second)))
	return d.free.Add(d.delay / 2)
}

// proxy is a TCP proxy that behaves like a line: rate and delay, no loss. A connection costs
// one round trip before its first byte, like the handshake of TCP; its slow start is not
// played.
type proxy struct {
	line
	up, down *direction
	listener net.Listener
	target   string
	ctx      context.Context // of all connections; ends with Close
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// newProxy listens on loopback and passes on to target until it is closed.
func newProxy(ctx context.Context, l line, target string) (*proxy, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{line: l, up: &direction{line: l}, down: &direction{line: l}, listener: listener, target: target}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.running.Go(p.accept)
	return p, nil
}

// through returns rawURL with the proxy in place of its host.
func (p *proxy) through(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", err
	}
	u.Host = p.listener.Addr().String()
	return u.String(), nil
}

// Close ends all connections and waits for them.
func (p *proxy) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.running.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.connect(client) })
	}
}

func (p *proxy) connect(client net.Conn) {
	var d net.Dialer
	server, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = client.Close() // the client sees that nobody is there
		return
	}
	p.join(client, server)
}

// join moves bytes between two connections until both directions have ended or p is closed,
// and closes both.
func (p *proxy) join(client, server net.Conn) {
	stop := context.AfterFunc(p.ctx, func() { _ = errors.Join(client.Close(), server.Close()) })
	defer stop()
	defer func() { _ = errors.Join(client.Close(), server.Close()) }()
	if !wait(p.ctx, time.Now().Add(p.delay)) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.move(p.up, server, client) })
	both.Go(func() { p.move(p.down, client, server) })
	both.Wait()
}

// parcel is bytes on their way.
type parcel struct {
	data   []byte
	arrive time.Time
}

// move passes on what src sends, through d, until its end.
func (p *proxy) move(d *direction, dst, src net.Conn) {
	onTheWay := make(chan parcel, (int(d.rate*d.delay.Seconds())+queued)/segment)
	var sender sync.WaitGroup
	sender.Go(func() {
		defer close(onTheWay)
		for {
			buf := make([]byte, segment)
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case onTheWay <- parcel{buf[:n], d.send(n)}:
				case <-p.ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for x := range onTheWay {
		if !wait(p.ctx, x.arrive) {
			break
		}
		if _, err := dst.Write(x.data); err != nil {
			_ = src.Close() // nobody is there to read what src sends
			break
		}
	}
	for range onTheWay {
		continue // the sender must come to its end
	}
	sender.Wait()
	closeWrite(dst)
}

// closeWrite tells the other side that nothing more comes.
func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // it may be closed already
		return
	}
	_ = c.Close()
}

// wait waits until t and reports whether ctx lasted as long.
func wait(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
