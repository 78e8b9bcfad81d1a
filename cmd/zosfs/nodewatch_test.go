package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/node"
)

// TestNodeWatch looks at a service, until it ends and after that.
func TestNodeWatch(t *testing.T) {
	isolate(t)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- node.Run(context.Background(), node.Options{Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	if code, out, errOut := exec(t, "nobody reads this", "node", "metrics"); code != 0 || !strings.Contains(out, "# TYPE zosfs_mounts gauge\n") || errOut != "" {
		t.Errorf("metrics: exit %d, stdout %q, stderr %q", code, out, errOut)
	}
	var text struct{ Type, Text string }
	if code, out, _ := exec(t, "", "node", "metrics", "--json"); code != 0 || json.Unmarshal([]byte(out), &text) != nil ||
		text.Type != "metrics" || !strings.Contains(text.Text, "zosfs_cache_limit_bytes ") {
		t.Errorf("metrics --json: exit %d, stdout %q", code, out)
	}
	// The first event is there at once, not when the buffer is full.
	seen, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"node", "events", "--json"}, streams{in: strings.NewReader(""), out: out, err: io.Discard})
		_ = out.Close()
	}()
	var first node.Event
	if err := json.NewDecoder(seen).Decode(&first); err != nil || first.Type != node.EventServing || first.Seq != 1 {
		t.Errorf("events --json begins with %+v, %v", first, err)
	}
	rest := make(chan string, 1)
	go func() {
		p, _ := io.ReadAll(seen)
		rest <- string(p)
	}()
	if code, _, errOut := exec(t, "", "node", "stop"); code != 0 {
		t.Errorf("stop: exit %d, stderr %q", code, errOut)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, text := <-code, <-rest; c != 0 || !strings.Contains(text, `"type":"ending"`) {
		t.Errorf("events: exit %d, the rest %q", c, text)
	}
	for _, command := range []string{"events", "metrics"} {
		if code, out, errOut := exec(t, "", "node", command); code != exitUnavailable || out != "" || !strings.Contains(errOut, "no node service is running") {
			t.Errorf("%s without a service: exit %d, stdout %q, stderr %q", command, code, out, errOut)
		}
	}
	if code, _, _ := exec(t, "", "node", "events", "--since", "-1"); code != exitUsage {
		t.Errorf("events --since -1: exit %d, want %d", code, exitUsage)
	}
}

func TestEventText(t *testing.T) {
	var out bytes.Buffer
	a := &app{streams: streams{out: &out}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.Local)
	for _, v := range []node.Event{
		{Type: node.EventUnmounted, Time: at, Seq: 1, Ref: "r", Dir: "/m\n", Mode: "fuse", By: node.ByOther},
		{Type: node.EventReadError, Time: at, Seq: 2, Path: "a b", Chunk: chunk.Digest{1}, Error: "gone"},
		{Type: node.EventMissed, Time: at, Seq: 9, Count: 7},
		{Type: node.EventQuarantined, Time: at, Seq: 10, Source: "s", Error: "lies"},
	} {
		if err := a.event(v); err != nil {
			t.Fatal(err)
		}
	}
	want := "2026-01-02 03:04:05  unmounted  /m\\n  r  mode fuse  by other\n" +
		"2026-01-02 03:04:05  read_error  path a b  chunk 01" + strings.Repeat("0", 62) + "  error gone\n" +
		"2026-01-02 03:04:05  missed  count 7\n" +
		"2026-01-02 03:04:05  source_quarantined  source s  error lies\n"
	if out.String() != want {
		t.Errorf("events read\n%swant\n%s", &out, want)
	}
}
