package keeper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

func never() bool { return false }

// TestIdleTime holds the clock against a table that is used and left.
func TestIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{table: newTable(time.Minute, 0)}
		began := time.Now()
		ended := make(chan time.Duration, 1)
		go func() { k.await(t.Context()); ended <- time.Since(began) }()
		pass := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if len(ended) > 0 {
				t.Fatalf("ended after %v", <-ended)
			}
		}
		conn := new(net.UnixConn)
		pass(59 * time.Second)
		k.table.connect(conn)
		pass(time.Hour)
		if err := k.table.put(&held{name: "x", fd: -1}, never); err != nil {
			t.Fatal(err)
		}
		k.table.disconnect(conn)
		pass(time.Hour)
		k.table.connect(conn)
		if err := k.table.delete([]string{"x"}, never); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		k.table.disconnect(conn)
		pass(59 * time.Second)
		k.table.connect(conn)
		k.table.disconnect(conn) // begins anew
		if got, want := <-ended, 3*time.Hour+178*time.Second; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
		if k.table.connect(conn) {
			t.Error("an ended keeper serves a connection")
		}
	})
}

// TestForEver has a keeper whose Idle is 0.
func TestForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer stop()
		k := &keeper{table: newTable(0, 0)}
		conn := new(net.UnixConn)
		k.table.connect(conn)
		k.table.disconnect(conn)
		k.await(ctx)
		if ctx.Err() == nil {
			t.Error("ended without an end of its context")
		}
	})
}

func newKeeper() *keeper {
	return &keeper{log: slog.New(slog.DiscardHandler), table: newTable(0, 0), patience: Patience}
}

// connect returns the client's end of a connection that k serves until ended.
func connect(t *testing.T, k *keeper) (client *net.UnixConn, ended <-chan struct{}) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conns[1].Close(); <-done })
	go func() { defer close(done); k.serve(conns[0]) }()
	return conns[1], done
}

func roundTrip(t *testing.T, conn *net.UnixConn, m message) {
	t.Helper()
	if err := newClient(conn).exchange(m, nil); err != nil {
		t.Fatal(err)
	}
}

// pipeItem returns a put with the writing end of a pipe, and the reading end.
func pipeItem(t *testing.T, data []byte) (m message, r int) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pipe[0]) })
	m = newMessage(kindPut)
	m.name, m.data, m.fd = "x", data, pipe[1]
	return m, pipe[0]
}

// wantEnd reads the end of a pipe, which comes when nobody holds its writing end.
func wantEnd(t *testing.T, r int) {
	t.Helper()
	if n, err := unix.Read(r, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("read of the pipe = %d, %v, want its end", n, err)
	}
}

// TestDeadClient has a client send whole requests and die before they are done: they are not
// done then, as a successor may be at work.
func TestDeadClient(t *testing.T) {
	withPipe, r := pipeItem(t, nil)
	drop := newMessage(kindDelete)
	drop.data = packNames([]string{"old"})
	for _, m := range []message{withPipe, drop} {
		k := newKeeper()
		client, ended := connect(t, k)
		old := newMessage(kindPut)
		old.name = "old"
		roundTrip(t, client, old)
		k.table.mu.Lock() // keeps the keeper from doing it
		if err := errors.Join(send(client, m), client.Close()); err != nil {
			t.Fatal(err)
		}
		m.close()
		k.table.mu.Unlock()
		<-ended
		if items := k.table.snapshot(); len(items) != 1 || items[0].name != "old" {
			t.Errorf("after the death of a client with a request of kind %d %d items are held, want the old one", m.kind, len(items))
		}
	}
	wantEnd(t, r)
}

// TestPatience has clients that stall: with half of a message, and with an answer.
func TestPatience(t *testing.T) {
	tests := []struct {
		name  string
		stall func(t *testing.T, conn *net.UnixConn)
	}{
		{"header", func(t *testing.T, conn *net.UnixConn) {
			if _, err := conn.Write([]byte{version}); err != nil {
				t.Fatal(err)
			}
		}},
		{"data", func(t *testing.T, conn *net.UnixConn) {
			if _, err := conn.Write([]byte{version, kindPut, 0, 1, 1, 0, 0, 0, 'y'}); err != nil {
				t.Fatal(err)
			}
		}},
		{"answer", func(t *testing.T, conn *net.UnixConn) {
			if err := send(conn, newMessage(kindGet)); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeeper()
			m, r := pipeItem(t, make([]byte, MaxData))
			if err := k.table.put(&held{name: m.name, data: m.data, fd: m.takeFD()}, never); err != nil {
				t.Fatal(err)
			}
			k.patience = 10 * time.Millisecond
			client, ended := connect(t, k)
			tt.stall(t, client)
			<-ended
			if _, err := io.Copy(io.Discard, client); err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
			k.table.clear()
			wantEnd(t, r)
		})
	}
}

// TestSilence has a client that is silent between its requests for longer than the patience.
func TestSilence(t *testing.T) {
	k := newKeeper()
	k.patience = 20 * time.Millisecond
	client, _ := connect(t, k)
	roundTrip(t, client, newMessage(kindPing))
	if err := client.SetReadDeadline(time.Now().Add(3 * k.patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read = %v, want %v: the connection stays", err, os.ErrDeadlineExceeded)
	}
	if err := client.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, client, newMessage(kindPing))
}

// TestLateInterrupt has the context of a call end when its answer is there already.
func TestLateInterrupt(t *testing.T) {
	conn, _ := connect(t, newKeeper())
	c := newClient(conn)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.interruptible(ctx, func() error {
		err := c.exchange(newMessage(kindPing), nil)
		cancel()
		return err
	})
	if err != nil {
		t.Errorf("the call = %v, want nil", err)
	}
	if err := c.call(t.Context(), newMessage(kindPing), nil); err != nil {
		t.Errorf("the next call = %v, want nil", err)
	}
}

// TestReplacedInAnswer replaces an item while an answer has it still.
func TestReplacedInAnswer(t *testing.T) {
	table := newTable(0, 0)
	m, r := pipeItem(t, nil)
	if err := table.put(&held{name: m.name, fd: m.takeFD()}, never); err != nil {
		t.Fatal(err)
	}
	items := table.snapshot()
	if err := table.put(&held{name: "x", fd: -1}, never); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(items[0].fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("the descriptor is closed under the answer: %v", err)
	}
	table.release(items...)
	wantEnd(t, r)
}

func TestPutOverLimitClosesDescriptor(t *testing.T) {
	table := newTable(0, 0)
	for i := range MaxItems {
		if err := table.put(&held{name: string(rune(i + 1)), fd: -1}, never); err != nil {
			t.Fatal(err)
		}
	}
	m, r := pipeItem(t, nil)
	if err := table.put(&held{name: "more", fd: m.takeFD()}, never); !errors.Is(err, errs.ErrFull) {
		t.Errorf("put = %v, want %v", err, errs.ErrFull)
	}
	wantEnd(t, r)
}

// TestAfter has a keeper that ends sooner once it was of use.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{table: newTable(time.Minute, time.Second)}
		began := time.Now()
		ended := make(chan time.Duration, 1)
		go func() { k.await(t.Context()); ended <- time.Since(began) }()
		conn := new(net.UnixConn)
		time.Sleep(30 * time.Second) // nothing was held yet
		k.table.connect(conn)
		if err := k.table.put(&held{name: "x", fd: -1}, never); err != nil {
			t.Fatal(err)
		}
		if err := k.table.delete([]string{"x"}, never); err != nil {
			t.Fatal(err)
		}
		k.table.disconnect(conn)
		if got, want := <-ended, 31*time.Second; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}
