package pack_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/pack"
)

// fails packs dir, which must not succeed and must leave nothing.
func fails(ctx context.Context, t *testing.T, dir string, d pack.Dest, o pack.Options) error {
	t.Helper()
	testenv.NoLeaks(t)
	out, cache, before := t.TempDir(), t.TempDir(), descriptors(t)
	o.CacheDir, o.Start = cache, later()
	_, err := pack.Tree(ctx, dir, d, filepath.Join(out, "x.flist"), o)
	if err == nil {
		t.Fatal("no error")
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	leftovers(t, out)
	leftovers(t, cache)
	return err
}

// TestChanges has a file change at each step of its reading.
func TestChanges(t *testing.T) {
	large := noise(3<<20, 1)
	for name, c := range map[string]struct {
		event  string
		change func(path string) error
		gone   bool   // left out, rather than kept as it was read
		either bool   // that depends on whether a new file gets the number of the old inode
		want   string // content that is kept, if not the old one
	}{
		"removed before open":  {event: "open", change: os.Remove, gone: true},
		"removed after open":   {event: "read", change: os.Remove}, // its ctime changes
		"replaced":             {event: "open", change: func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, []byte("new"), 0o644)) }, gone: true, either: true},
		"became a symlink":     {event: "open", change: func(p string) error { return errors.Join(os.Remove(p), os.Symlink("x", p)) }, gone: true},
		"became a directory":   {event: "open", change: func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) }, gone: true},
		"became a fifo":        {event: "open", change: func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) }, gone: true},
		"has grown":            {event: "read", change: appendTo},
		"grows after the end":  {event: "done", change: appendTo},
		"has shrunk":           {event: "read", change: func(p string) error { return os.Truncate(p, 5) }, want: "shrunk"},
		"has shrunk to none":   {event: "read", change: func(p string) error { return os.Truncate(p, 0) }, want: "empty"},
		"other mode":           {event: "done", change: func(p string) error { return os.Chmod(p, 0o600) }},
		"written in place":     {event: "done", change: func(p string) error { return os.WriteFile(p, []byte("12345"), 0o644) }},
		"vanishes before stat": {event: "visit", change: os.Remove, gone: true},
	} {
		for size, data := range map[string]string{"small": "hello, world", "large": large} {
			t.Run(name+"/"+size, func(t *testing.T) {
				dir := files(t, map[string]string{"a": "first", "b": data, "c": "last"})
				hook := func(event, path string) error {
					if path != "b" || event != c.event {
						return nil
					}
					full := filepath.Join(dir, path)
					if err := c.change(full); err != nil {
						return err
					}
					if event == "visit" {
						return unix.ENOENT // what the stat would have said
					}
					return nil
				}
				before, err := os.ReadDir(dir)
				if err != nil || len(before) != 3 {
					t.Fatal(before, err)
				}
				err = fails(t.Context(), t, dir, newDest(), pack.WithHook(pack.Options{}, hook))
				var changed *pack.ChangedError
				if !errors.As(err, &changed) || !strings.Contains(err.Error(), "snapshot") {
					t.Fatalf("error %v, want a ChangedError that says what to do", err)
				}

				if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(dir, "b"), data)
				d := newDest()
				res, p := mustPack(t, dir, d, pack.WithHook(pack.Options{AllowChanged: true}, hook))
				r := open(t, p)
				id, kept := paths(r)["b"]
				if c.either {
					return
				}
				if kept == c.gone {
					t.Fatalf("kept: %v, want %v; %+v", kept, !c.gone, res)
				}
				if c.gone {
					if len(res.Vanished.Paths) != 1 || res.Vanished.Paths[0] != "b" {
						t.Errorf("vanished: %+v", res.Vanished)
					}
					return
				}
				if len(res.Changed.Paths) == 0 || res.Changed.Paths[len(res.Changed.Paths)-1] != "b" {
					t.Errorf("changed: %+v", res.Changed)
				}
				want := data
				switch c.want {
				case "shrunk":
					want = data[:5]
				case "empty":
					want = ""
				}
				if got := string(content(t, r, d, id)); got != want {
					t.Errorf("%d bytes kept, want %d", len(got), len(want))
				}
			})
		}
	}
}

func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("more")
	return errors.Join(err, f.Close())
}

// TestChangingDirectory adds a name to a directory whose entries were listed already.
func TestChangingDirectory(t *testing.T) {
	dir := files(t, map[string]string{"d/a": "1", "d/b": "2"})
	hook := func(event, path string) error {
		if event == "visit" && path == "d/b" {
			return os.WriteFile(filepath.Join(dir, "d", "c"), []byte("3"), 0o644)
		}
		return nil
	}
	err := fails(t.Context(), t, dir, newDest(), pack.WithHook(pack.Options{}, hook))
	var changed *pack.ChangedError
	if !errors.As(err, &changed) || len(changed.Changed.Paths) != 1 || changed.Changed.Paths[0] != "d" {
		t.Errorf("error %v, want one about d", err)
	}
}

// TestMovedDirectory moves a directory away and puts another in its place while files of it
// wait to be read.
func TestMovedDirectory(t *testing.T) {
	secret := files(t, map[string]string{"a": "secret"})
	dir := files(t, map[string]string{"d/a": "mine", "d/sub/x": "mine"})
	hook := func(event, path string) error {
		if event == "visit" && path == "d/a" {
			return errors.Join(os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")), os.Symlink(secret, filepath.Join(dir, "d")))
		}
		return nil
	}
	res, p := mustPack(t, dir, newDest(), pack.WithHook(pack.Options{AllowChanged: true}, hook))
	r := open(t, p)
	if id, ok := paths(r)["d/a"]; ok && r.Object(r.Node(id).Object).Digest != chunk.Sum([]byte("mine")) {
		t.Error("the pack followed a symlink to another directory")
	}
	if res.Changed.Count == 0 {
		t.Error("the move was not noticed")
	}
}

func TestUnreadable(t *testing.T) {
	large := noise(5<<20, 1)
	for name, errno := range map[string]error{"EACCES": unix.EACCES, "EIO": unix.EIO} {
		for _, event := range []string{"visit", "open", "read", "done"} {
			t.Run(name+"/"+event, func(t *testing.T) {
				dir := files(t, map[string]string{"a": "first", "b/small": "x", "b/large": large, "c": "last"})
				if err := os.Link(filepath.Join(dir, "b/large"), filepath.Join(dir, "b/more")); err != nil {
					t.Fatal(err)
				}
				hook := func(e, path string) error {
					if e == event && strings.HasPrefix(path, "b/") {
						return errno
					}
					return nil
				}
				err := fails(t.Context(), t, dir, newDest(), pack.WithHook(pack.Options{}, hook))
				var at *fs.PathError
				if !errors.As(err, &at) || !errors.Is(err, errno) || !strings.HasPrefix(at.Path, "b/") {
					t.Errorf("error %v, want %v and the path", err, errno)
				}
				d := newDest()
				res, p := mustPack(t, dir, d, pack.WithHook(pack.Options{SkipUnreadable: true}, hook))
				r := open(t, p)
				names := paths(r)
				if len(names) != 4 || res.Skipped.Count != 3 || res.Changed.Count+res.Vanished.Count > 0 {
					t.Errorf("kept: %v; %+v", names, res)
				}
				if _, again := mustPack(t, dir, d, pack.WithHook(pack.Options{SkipUnreadable: true}, hook)); string(again) != string(p) {
					t.Error("packed again: other bytes")
				}
			})
		}
	}
}

func TestUnreadableDirectory(t *testing.T) {
	dir := files(t, map[string]string{"a": "first", "closed/x": "x"})
	hook := func(event, path string) error {
		if event == "visit" && path == "closed" {
			return unix.EACCES
		}
		return nil
	}
	if err := fails(t.Context(), t, dir, newDest(), pack.WithHook(pack.Options{}, hook)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
	_, p := mustPack(t, dir, newDest(), pack.WithHook(pack.Options{SkipUnreadable: true}, hook))
	if names := paths(open(t, p)); len(names) != 2 {
		t.Errorf("kept %v", names)
	}
}

// TestCancelAnywhere cancels a pack at many moments, one after another.
func TestCancelAnywhere(t *testing.T) {
	dir := grow(t, 150, 1<<20)
	for at := int64(0); at < 400; at += 23 {
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		count := func() {
			if n.Add(1) == at+1 {
				cancel()
			}
		}
		d := newDest()
		d.put = func(context.Context) error {
			count()
			return nil
		}
		err := fails(ctx, t, dir, d, pack.WithHook(pack.Options{}, func(string, string) error {
			count()
			return nil
		}))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at %d: error %v, want context.Canceled", at, err)
		}
		cancel()
	}
}

func TestDestFails(t *testing.T) {
	dir := files(t, map[string]string{"a": noise(9<<20, 1), "b": noise(9<<20, 2), "c": "last"})
	for name, c := range map[string]struct {
		dest pack.Dest
		want error
	}{
		"full":           {&dest{Store: newDest().Store, put: func(context.Context) error { return errs.ErrFull }}, errs.ErrFull},
		"look-up denied": {&answers{dest: newDest(), err: errs.ErrDenied}, errs.ErrDenied},
		"other chunk":    {&answers{dest: newDest(), lie: func(l *blob.Location) { l.Chunk[0] ^= 1 }}, errs.ErrCorrupt},
		"other size":     {&answers{dest: newDest(), lie: func(l *blob.Location) { l.Size++; l.Stored++ }}, errs.ErrCorrupt},
		"no blob":        {&answers{dest: newDest(), lie: func(l *blob.Location) { l.Blob = blob.Digest{} }}, errs.ErrCorrupt},
		"missing blob":   {&answers{dest: newDest(), lie: func(*blob.Location) {}}, errs.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if err := fails(t.Context(), t, dir, c.dest, pack.Options{}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// answers is a destination whose answers are made up.
type answers struct {
	*dest
	err error
	lie func(*blob.Location)
}

func (a *answers) Locate(_ context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if a.err != nil {
		return nil, a.err
	}
	found := make(map[chunk.Digest]blob.Location)
	for _, c := range chunks {
		l := blob.Location{Blob: blob.Sum(c[:]), Ref: blob.Ref{Chunk: c, Offset: 8, Stored: 4, Size: 4, Codec: blob.CodecStored}}
		if c == chunk.Sum([]byte("last")) {
			a.lie(&l)
			found[c] = l
		}
	}
	return found, nil
}

func TestNotADirectory(t *testing.T) {
	dir := files(t, map[string]string{"f": "1"})
	for _, path := range []string{filepath.Join(dir, "f"), filepath.Join(dir, "none")} {
		if err := fails(t.Context(), t, path, newDest(), pack.Options{}); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}
