package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slow is 1 MB/s and 100 ms.
var slow = line{rate: 1e6, delay: 100 * time.Millisecond}

// joined returns the two ends of n connections through one proxy, in the time of a synctest
// bubble.
func joined(t *testing.T, n int) (p *proxy, clients, servers []net.Conn) {
	ctx, cancel := context.WithCancel(t.Context())
	p = &proxy{line: slow, up: &direction{line: slow}, down: &direction{line: slow}, ctx: ctx, cancel: cancel}
	for range n {
		client, near := net.Pipe()
		far, server := net.Pipe()
		p.running.Go(func() { p.join(near, far) })
		clients, servers = append(clients, client), append(servers, server)
	}
	t.Cleanup(func() {
		cancel()
		p.running.Wait()
	})
	return p, clients, servers
}

// send writes n bytes to c and closes it.
func send(t *testing.T, wg *sync.WaitGroup, c net.Conn, p []byte) {
	wg.Go(func() {
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func randomBytes(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want-time.Millisecond || got > want+time.Millisecond {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

func TestProxyPacesAndDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, clients, servers := joined(t, 1)
		want := randomBytes(500_000)
		start := time.Now()
		var wg sync.WaitGroup
		send(t, &wg, servers[0], want)
		got, err := io.ReadAll(clients[0])
		if err != nil {
			t.Fatal(err)
		}
		// A round trip for the handshake, half of one for the way, and what the rate takes.
		near(t, "500 kB at 1 MB/s", time.Since(start), 100*time.Millisecond+50*time.Millisecond+500*time.Millisecond)
		if !bytes.Equal(got, want) {
			t.Errorf("got %d bytes that differ from the %d that were sent", len(got), len(want))
		}
		if n := p.down.bytes.Load(); n != int64(len(want)) {
			t.Errorf("counted %d bytes, want %d", n, len(want))
		}
		wg.Wait()
	})
}

func TestProxyAnswersAfterARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, clients, servers := joined(t, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			var b [1]byte
			for range 2 {
				if _, err := io.ReadFull(servers[0], b[:]); err != nil {
					t.Error(err)
				}
				if _, err := servers[0].Write(b[:]); err != nil {
					t.Error(err)
				}
			}
		})
		for i, want := range []time.Duration{200 * time.Millisecond, 100 * time.Millisecond} {
			start := time.Now()
			if _, err := clients[0].Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(clients[0], make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			near(t, "answer "+string(rune('1'+i)), time.Since(start), want)
		}
		wg.Wait()
	})
}

func TestProxySharesTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, clients, servers := joined(t, 2)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 2 {
			send(t, &wg, servers[i], make([]byte, 250_000))
			wg.Go(func() {
				if n, err := io.Copy(io.Discard, clients[i]); n != 250_000 || err != nil {
					t.Errorf("connection %d: got %d bytes and %v, want 250000", i, n, err)
				}
			})
		}
		wg.Wait()
		near(t, "two times 250 kB", time.Since(start), 650*time.Millisecond)
	})
}

func TestProxyHoldsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, clients, servers := joined(t, 1)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = servers[0].Write(make([]byte, 10_000_000)) }) // cut off below
		if _, err := io.ReadFull(clients[0], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// What is on its way for a round trip, the queue, and the parcels in hand.
		if n, most := p.down.bytes.Load(), int64(100_000+queued+4*segment); n > most {
			t.Errorf("took %d bytes of a sender whose receiver does not read, want at most %d", n, most)
		}
		p.cancel()
		wg.Wait()
	})
}

func TestProxyOverTCP(t *testing.T) {
	took, err := download(t.Context(), line{rate: 100e6, delay: 2 * time.Millisecond}, 300_000)
	if err != nil {
		t.Fatal(err)
	}
	if least := 6 * time.Millisecond; took < least { // handshake, request, answer: two round trips, and 3 ms of rate
		t.Errorf("300 kB at 100 MB/s and 2 ms took %v, want at least %v", took, least)
	}
}
