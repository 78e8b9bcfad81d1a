package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// linking is section link: reading through a slow link, against one plain download of as
// many bytes as went over it.
func (b *bench) linking(ctx context.Context) error {
	dir, err := b.trees.link.open(ctx, b.lab)
	if err != nil {
		return err
	}
	ref, err := b.product.publish(ctx, dir, b.trees.link.name)
	if err != nil {
		return err
	}
	t := b.rep.table(fmt.Sprintf("Link: %.0f Mbit/s, %s round trip, empty cache, median of %d; plain is one HTTP download of as many bytes",
		b.line.rate*8/1e6, b.line.delay, b.reps))
	work := []struct {
		name string
		b    *budget
		run  func(ctx context.Context, root string) (time.Duration, error)
	}{
		{"sequential read", atLeast(0.9), func(ctx context.Context, root string) (time.Duration, error) {
			return readWhole(ctx, filepath.Join(root, bigName))
		}},
		{"tar of 1,000 small files", nil, func(ctx context.Context, root string) (time.Duration, error) {
			return tar(ctx, b.lab, filepath.Join(root, "small"))
		}},
	}
	for _, mode := range b.modes {
		for _, w := range work {
			cells, err := b.linkTimes(ctx, mode, ref, w.b, w.run)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				b.rep.fail("link, %s, %s: %v", w.name, mode, err)
				continue
			}
			t.add(w.name+", "+mode, cells...)
		}
	}
	return nil
}

func (b *bench) linkTimes(ctx context.Context, mode, ref string, limit *budget, run func(context.Context, string) (time.Duration, error)) (cells []cell, err error) {
	m := b.product.machine("link-"+mode, mode)
	defer func() { err = errors.Join(err, m.stop()) }()
	var ours, plain samples
	var wire, requests int64
	for rep := range b.reps {
		b.lab.say("link: %s, %d of %d", mode, rep+1, b.reps)
		took, n, err := b.linkOnce(ctx, m, ref, run)
		if err != nil {
			return nil, err
		}
		ours.add(took)
		wire = n
		st, err := m.stats(ctx)
		if err != nil {
			return nil, err
		}
		requests = st.Requests
		if took, err = download(ctx, b.line, n); err != nil {
			return nil, fmt.Errorf("plain download: %w", err)
		}
		plain.add(took)
	}
	return []cell{
		figure("on the wire", wire, byteSize, nil), figure("requests", requests, count, nil),
		figure("plain", plain.median(), seconds, nil), figure("zosfs", ours.median(), seconds, nil),
		figure("vs plain", over(plain.median(), ours.median()), ratio, limit),
	}, nil
}

// linkOnce mounts an image through a new link and runs something on it. It returns the time
// and the bytes that came over the link meanwhile.
func (b *bench) linkOnce(ctx context.Context, m *machine, ref string, run func(context.Context, string) (time.Duration, error)) (took time.Duration, wire int64, err error) {
	hub, err := url.Parse(b.product.hub)
	if err != nil {
		return 0, 0, err
	}
	p, err := newProxy(ctx, b.line, hub.Host)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	far, err := p.through(b.product.hub)
	if err != nil {
		return 0, 0, err
	}
	if err := m.boot(ctx, true); err != nil {
		return 0, 0, err
	}
	if _, err := m.mount(ctx, far+ref); err != nil {
		return 0, 0, err
	}
	before := p.down.bytes.Load()
	took, err = run(ctx, m.mountDir())
	return took, p.down.bytes.Load() - before, err
}

// download fetches n bytes from a plain web server through a link.
func download(ctx context.Context, l line, n int64) (took time.Duration, err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(serveZeros)}
	go server.Serve(listener) //nolint:errcheck // it ends with Close
	defer func() { err = errors.Join(err, server.Close()) }()
	p, err := newProxy(ctx, l, listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	addr, err := p.through(fmt.Sprintf("http://%s/%d", listener.Addr(), n))
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr, nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	if err == nil && got != n {
		err = fmt.Errorf("got %d bytes, want %d", got, n)
	}
	return time.Since(start), err
}

// serveZeros answers /N with N bytes.
func serveZeros(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	if err != nil {
		http.Error(w, "want a number", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	buf := make([]byte, 64<<10)
	for ; n > 0; n -= int64(len(buf)) {
		if _, err := w.Write(buf[:min(n, int64(len(buf)))]); err != nil {
			return // the client has gone
		}
	}
}
