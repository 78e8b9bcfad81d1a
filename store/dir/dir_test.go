package dir_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/store/storetest"
)

func open(t testing.TB, root string) *dir.Store {
	t.Helper()
	s, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "new", "root")) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) store.Store { return open(b, b.TempDir()) })
}

// file returns where the layout puts the blob.
func file(root string, b storetest.Blob) string {
	name := b.Digest.String()
	return filepath.Join(root, "blobs", name[:2], name)
}

func TestLayout(t *testing.T) {
	root, b := t.TempDir(), storetest.Blobs(1)[0]
	if err := open(t, root).Put(t.Context(), b.Digest, b.Data); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file(root, b)); err != nil || !bytes.Equal(got, b.Data) {
		t.Errorf("file of the blob: %d bytes, %v; want its %d bytes", len(got), err, b.Size())
	}
	f, size, err := open(t, root).Open(t.Context(), b.Digest)
	if err != nil || size != b.Size() || f.Name() != file(root, b) {
		t.Errorf("Open = %v, %d, %v", f, size, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestPutRepairs(t *testing.T) {
	b := storetest.Blobs(1)[0]
	for name, damage := range map[string][]byte{
		"torn":  b.Data[:100],
		"empty": {},
		"flip":  append([]byte{b.Data[0] ^ 1}, b.Data[1:]...),
		"long":  append(bytes.Clone(b.Data), 0),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, root)
			write(t, file(root, b), damage)
			if err := s.Put(t.Context(), b.Digest, b.Data); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file(root, b)); err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("after Put over a damaged file there are %d bytes, %v; want the blob", len(got), err)
			}
		})
	}
}

func TestNotRegular(t *testing.T) {
	b := storetest.Blobs(1)[0]
	for name, plant := range map[string]func(path, good string) error{
		"symlink":        func(path, good string) error { return os.Symlink(good, path) },
		"broken symlink": func(path, _ string) error { return os.Symlink("nowhere", path) },
		"fifo":           func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":      func(path, _ string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s, good, path := open(t, root), filepath.Join(root, "good"), file(root, b)
			write(t, good, b.Data)
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := plant(path, good); err != nil {
				t.Fatal(err)
			}
			if rc, err := s.Get(t.Context(), b.Digest, 0, -1); !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("Get = %v, %v, want %v", rc, err, errs.ErrCorrupt)
			}
			if size, err := s.Stat(t.Context(), b.Digest); !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("Stat = %d, %v, want %v", size, err, errs.ErrCorrupt)
			}
			if got := list(t, s); len(got) > 0 {
				t.Errorf("List = %v, want nothing", got)
			}
			if err := s.Put(t.Context(), b.Digest, b.Data); (err != nil) != (name == "directory") {
				t.Errorf("Put = %v", err)
			}
			if got, err := os.ReadFile(good); err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("what the symlink led to was changed: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestLeftovers(t *testing.T) {
	root, b := t.TempDir(), storetest.Blobs(1)[0]
	s := open(t, root)
	if err := s.Put(t.Context(), b.Digest, b.Data); err != nil {
		t.Fatal(err)
	}
	shard := filepath.Dir(file(root, b))
	pending := func(age time.Duration) string { // as a killed Put leaves it
		f, err := atomicfile.Create(file(root, b), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		name, kept := f.Name(), f.Name()+".kept"
		if err := os.Link(name, kept); err != nil {
			t.Fatal(err)
		}
		if err := f.Abort(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(kept, name); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
		return name
	}
	old, young := pending(25*time.Hour), pending(time.Hour)
	write(t, filepath.Join(shard, "notes.txt"), nil)
	write(t, filepath.Join(shard, "ffff"+b.Digest.String()[4:]), nil) // in the wrong directory
	if got, want := list(t, s), []store.Info{{Digest: b.Digest, Size: b.Size()}}; !cmp.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
	for path, want := range map[string]bool{old: false, young: true, filepath.Join(shard, "notes.txt"): true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("after List: %s is there: %v, want %v", path, err == nil, want)
		}
	}
}

func TestRootGone(t *testing.T) {
	root, b := filepath.Join(t.TempDir(), "root"), storetest.Blobs(1)[0]
	s := open(t, root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	_, err := s.Stat(t.Context(), b.Digest)
	for call, err := range map[string]error{"Stat": err, "List": s.List(t.Context(), nil), "Put": s.Put(t.Context(), b.Digest, b.Data)} {
		if !errors.Is(err, errs.ErrUnavailable) {
			t.Errorf("%s without the directory = %v, want %v", call, err, errs.ErrUnavailable)
		}
	}
}

func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	root := t.TempDir()
	testenv.Mounted(t, root)
	if err := syscall.Mount("none", root, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	small, big := storetest.NewBlob(0, storetest.Chunk(1, 10_000)), storetest.NewBlob(0, storetest.Chunk(2, 100_000))
	if err := s.Put(t.Context(), big.Digest, big.Data); !errors.Is(err, errs.ErrFull) {
		t.Errorf("Put on a full disk = %v, want %v", err, errs.ErrFull)
	}
	if _, err := s.Stat(t.Context(), big.Digest); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Stat after a failed Put = %v, want %v", err, errs.ErrNotFound)
	}
	if left, err := os.ReadDir(filepath.Dir(file(root, big))); err != nil || len(left) > 0 {
		t.Errorf("a failed Put left %v, %v", left, err)
	}
	if err := s.Put(t.Context(), small.Digest, small.Data); err != nil {
		t.Errorf("Put of a blob for which there is space: %v", err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, s store.Store) []store.Info {
	t.Helper()
	var out []store.Info
	err := s.List(t.Context(), func(i store.Info) error {
		out = append(out, i)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
