package hub_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

// Environment of the child process of TestKill.
const (
	killData  = "ZOSFS_TEST_HUB_DATA"
	killStep  = "ZOSFS_TEST_HUB_STEP"
	killToken = "ZOSFS_TEST_HUB_TOKEN"
)

// TestKill ends a hub with SIGKILL after each step of an upload, a publication and a
// deletion, opens the directory again, and looks at what is trusted and what is lost.
func TestKill(t *testing.T) {
	if os.Getenv(killData) != "" {
		killChild(t)
		return
	}
	blobs := storetest.Blobs(2)
	for _, c := range []struct {
		step             string
		blob, tag, freed int // statuses afterwards
	}{
		{"blob verified", 404, 404, 404},
		{"blob kept", 404, 404, 404},
		{"blob noted", 200, 404, 404},
		{"flist checked", 200, 404, 404},
		{"flist kept", 200, 404, 404},
		{"flist published", 200, 200, 404},
		{"blob forgotten", 200, 200, 404},
	} {
		t.Run(c.step, func(t *testing.T) {
			data := t.TempDir()
			acme := tokenIn(t, data, api.ScopeAdmin)
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
			child.Env = append(os.Environ(), killData+"="+data, killStep+"="+c.step, killToken+"="+acme)
			out, err := child.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v, want SIGKILL:\n%s", err, out)
			}
			w := newWorld(t, hub.Options{Data: data})
			w.want(200, "GET", "/v1/repos/acme/before/tags/1", acme, nil)
			w.want(200, "GET", blobPath(beforeBlob()), acme, nil)
			w.want(c.blob, "GET", blobPath(blobs[0]), acme, nil)
			w.want(c.tag, "GET", "/v1/repos/acme/x/tags/1", acme, nil)
			w.want(c.freed, "GET", blobPath(blobs[1]), acme, nil)
			if n := w.locate(acme, blobs[0]); (n == 3) != (c.blob == 200) || n != 0 && n != 3 {
				t.Errorf("%d chunks are found, the blob gives %d", n, c.blob)
			}
			if left, err := os.ReadDir(data + "/tmp"); err != nil || len(left) > 0 {
				t.Errorf("uploads left behind: %v, %v", left, err)
			}
			// Whatever was left, doing it again works.
			tag := w.publish(acme, "acme/x:1", blobs[0])
			p := flistOf(t, blobs[0], nil)
			if r := w.want(200, "GET", "/v1/repos/acme/x/flists/"+tag.Flist.Digest.String(), acme, nil); !bytes.Equal(r.body, p) {
				t.Error("the flist has other bytes")
			}
			if r := w.want(200, "GET", blobPath(blobs[0]), acme, nil); !bytes.Equal(r.body, blobs[0].Data) {
				t.Error("the blob has other bytes")
			}
		})
	}
}

func beforeBlob() storetest.Blob { return storetest.NewBlob(0, storetest.Chunk(77, 3000)) }

func tokenIn(t *testing.T, data string, scope api.Scope) string {
	t.Helper()
	secret, _, err := hub.CreateToken(t.Context(), data, hub.TokenRequest{User: "acme", Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// killChild is the hub that is killed: it publishes one thing, then begins to die at its step.
func killChild(t *testing.T) {
	s, err := hub.New(t.Context(), hub.Options{Data: os.Getenv(killData)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	w := &world{s, t, srv.URL, os.Getenv(killData)}
	acme, blobs := os.Getenv(killToken), storetest.Blobs(2)
	w.publish(acme, "acme/before:1", beforeBlob())
	if os.Getenv(killStep) == "blob forgotten" {
		w.putBlob(acme, blobs[1])
	}
	s.SetStep(func(step string) {
		if step == os.Getenv(killStep) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-time.After(time.Minute) // it comes at once, but not before this line
		}
	})
	w.publish(acme, "acme/x:1", blobs[0])
	w.want(204, "DELETE", blobPath(blobs[1]), acme, nil)
	t.Error("the step was never reached")
}

// TestFullDisk: what cannot be kept is told, and leaves nothing that is trusted.
func TestFullDisk(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	if err := os.RemoveAll(w.data + "/tmp"); err != nil {
		t.Fatal(err)
	}
	r := w.do("PUT", blobPath(b), acme, b.Data)
	if r.StatusCode < 500 || r.code() == "" {
		t.Errorf("upload without a place for it: status %d: %s", r.StatusCode, r.body)
	}
	w.want(404, "GET", blobPath(b), acme, nil)
	if err := os.Mkdir(w.data+"/tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	w.putBlob(acme, b)
	for err, want := range map[error]int{
		syscall.ENOSPC: 507, syscall.EDQUOT: 507, errs.ErrFull: 507, errs.ErrNotFound: 404, errs.ErrCorrupt: 422,
		errs.ErrFormat: 415, errs.ErrUnavailable: 503, errs.ErrDenied: 403, errors.New("secret path"): 500,
	} {
		if got, text := hub.AsFailure(err); got != want || text == "" || text == "secret path" {
			t.Errorf("%v becomes %d %q, want %d and nothing of its text", err, got, text, want)
		}
	}
}

// TestOneProcess: a directory is served once.
func TestOneProcess(t *testing.T) {
	w := newWorld(t, hub.Options{})
	if _, err := hub.New(t.Context(), hub.Options{Data: w.data}); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("New on a directory that is served = %v, want %v", err, errs.ErrUnavailable)
	}
}

// TestMissingFile: a blob with rows whose file is gone is the hub's fault, is not served,
// and comes back with the next upload.
func TestMissingFile(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.putBlob(acme, b)
	name := b.Digest.String()
	file := w.data + "/blobs/" + name[:2] + "/" + name
	if err := os.Truncate(file, 10); err != nil {
		t.Fatal(err)
	}
	w.want(503, "GET", blobPath(b), acme, nil)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.want(503, "GET", blobPath(b), acme, nil)
	w.putBlob(acme, b)
	w.want(200, "GET", blobPath(b), acme, nil)
}
