package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Env is the environment variable that declares needs as met.
const Env = "ZOSFS_NEED"

var (
	root    = sync.OnceValue(probeRoot)
	fuse    = sync.OnceValue(probeFUSE)
	overlay = sync.OnceValue(probeOverlay)
	erofs   = sync.OnceValue(probeEROFS)
)

// NeedRoot needs the power to change owners, make device nodes, set trusted xattrs and
// mount file systems.
func NeedRoot(t testing.TB) {
	t.Helper()
	need(t, "root", root())
}

// Root reports whether [NeedRoot] would let a test go on.
func Root() bool { return root() == nil }

// NeedFUSE needs the power to mount FUSE file systems, through fusermount3 where the
// process is not root.
func NeedFUSE(t testing.TB) {
	t.Helper()
	need(t, "fuse", fuse())
}

// NeedOverlay needs the power to mount a writable overlay whose upper directory lies in a
// [TempDir].
func NeedOverlay(t testing.TB) {
	t.Helper()
	need(t, "overlay", overlay())
}

// NeedEROFS needs the power to mount an EROFS image, from a file or through a loop device.
func NeedEROFS(t testing.TB) {
	t.Helper()
	need(t, "erofs", erofs())
}

// NeedTool needs programs that can be found in PATH.
func NeedTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		need(t, "tools", err)
	}
}

// need ends the test if err says that the need named by word is not met.
func need(t testing.TB, word string, err error) {
	t.Helper()
	declared, perr := parse(os.Getenv(Env))
	switch {
	case perr != nil:
		t.Fatal(perr)
	case err == nil:
	case slices.Contains(declared, word):
		t.Fatalf("%s declares %s, but: %v", Env, word, err)
	default:
		t.Skipf("needs %s: %v", word, err)
	}
}

// parse reads the value of Env into words, "all" spelt out.
func parse(s string) ([]string, error) {
	all := []string{"root", "fuse", "overlay", "erofs", "memory", "tools"}
	var words []string
	for word := range strings.SplitSeq(s, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "":
		case word == "all":
			words = append(words, all...)
		case slices.Contains(all, word):
			words = append(words, word)
		default:
			return nil, fmt.Errorf("%s: %q is none of %s, all", Env, word, strings.Join(all, ", "))
		}
	}
	return words, nil
}
