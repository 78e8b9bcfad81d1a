package hub_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/storetest"
)

// TestUploadsMove: the file of an upload becomes the blob or the flist, without a second
// file that a kill could leave where nobody looks.
func TestUploadsMove(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, b := w.token("acme", api.ScopeWrite, ""), storetest.Blobs(1)[0]
	var was os.FileInfo
	w.SetStep(func(step string) {
		if step != "blob verified" && step != "flist checked" {
			return
		}
		uploads, err := filepath.Glob(w.data + "/tmp/upload-*")
		if err != nil || len(uploads) != 1 {
			t.Errorf("%s: uploads %q, %v, want one", step, uploads, err)
			return
		}
		if was, err = os.Stat(uploads[0]); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name string
		put  func()
		file string
	}{
		{"blob", func() { w.putBlob(acme, b) }, "/blobs/??/*"},
		{"flist", func() { w.publishFlist(acme, "acme/x:1", flistOf(t, b, nil)) }, "/flists/??/*"},
		{"blob again", func() { w.putBlob(acme, b) }, "/blobs/??/*"},
	} {
		c.put()
		files, err := filepath.Glob(w.data + c.file)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: files %q, %v, want one", c.name, files, err)
		}
		if is, err := os.Stat(files[0]); err != nil || !os.SameFile(was, is) {
			t.Errorf("%s: %v, %v is not the file that was uploaded", c.name, is, err)
		}
	}
	if left, err := os.ReadDir(w.data + "/tmp"); err != nil || len(left) > 0 {
		t.Errorf("uploads left behind: %v, %v", left, err)
	}
}

// TestUploadsCount: an upload counts until it is kept, so that those that wait do not fill
// the disk; one that waits for the disk keeps no other from being verified.
func TestUploadsCount(t *testing.T) {
	w := newWorld(t, hub.Options{Uploads: 2, Verifies: 1})
	acme, blobs := w.token("acme", api.ScopeWrite, ""), storetest.Blobs(3)
	verified, resume := make(chan struct{}), make(chan struct{})
	var n atomic.Int32
	w.SetStep(func(step string) {
		if step == "blob verified" && n.Add(1) != 2 { // the second alone gets on
			verified <- struct{}{}
			<-resume
		}
	})
	var done sync.WaitGroup
	done.Go(func() { w.putBlob(acme, blobs[0]) })
	<-verified
	w.putBlob(acme, blobs[1]) // has the one slot of the verifiers for itself
	done.Go(func() { w.putBlob(acme, blobs[2]) })
	<-verified
	r := w.want(503, "PUT", blobPath(blobs[1]), acme, blobs[1].Data)
	if r.code() != api.CodeUnavailable || !strings.Contains(string(r.body), "2 uploads") {
		t.Errorf("a third upload: %s", r.body)
	}
	close(resume)
	done.Wait()
}

// TestOneFileSystem: a directory in which uploads could never be moved into place is refused
// at the start, not at each upload.
func TestOneFileSystem(t *testing.T) {
	testenv.NeedRoot(t)
	data := t.TempDir()
	blobs := filepath.Join(data, "blobs")
	if err := os.Mkdir(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, blobs)
	if err := syscall.Mount("none", blobs, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	_, err := hub.New(t.Context(), hub.Options{Data: data})
	if !errors.Is(err, syscall.EXDEV) || !strings.Contains(err.Error(), "one file system") {
		t.Errorf("New with blobs on another file system = %v, want %v and why", err, syscall.EXDEV)
	}
	for _, d := range []string{blobs, filepath.Join(data, "tmp"), filepath.Join(data, "flists")} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v, %v, want nothing", d, left, err)
		}
	}
}
