package mount_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// modes are both modes, as a test mounts in them.
var modes = map[mount.Mode]func(t *testing.T, im *image.Image) *mount.Mounted{
	mount.Kernel: func(t *testing.T, im *image.Image) *mount.Mounted {
		t.Helper()
		return kernelAt(t, newHost(t, ""), im)
	},
	mount.FUSE: func(t *testing.T, im *image.Image) *mount.Mounted {
		t.Helper()
		return at(t, im, mount.Options{Mode: mount.FUSE})
	},
}

// overlay mounts a writable overlay over lower, for the time of the test. What is written goes
// to upper.
func overlay(t *testing.T, lower string) (dir, upper string, err error) {
	t.Helper()
	work := testenv.TempDir(t)
	dir, upper = filepath.Join(work, "merged"), filepath.Join(work, "upper")
	for _, d := range []string{dir, upper, filepath.Join(work, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t // an overlay has the root's attributes of its upper directory
	if err := errors.Join(unix.Stat(lower, &st), unix.Chmod(upper, st.Mode&0o7777), unix.Chown(upper, int(st.Uid), int(st.Gid)),
		unix.UtimesNanoAt(unix.AT_FDCWD, upper, []unix.Timespec{st.Atim, st.Mtim}, 0)); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	err = unix.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s/work,redirect_dir=on,metacopy=on,index=on,xino=on", lower, upper, work))
	return dir, upper, err
}

// TestOverlayOnTop writes to an overlay over a mount, and to one over that, as a container and
// a container in it do.
func TestOverlayOnTop(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	ref := testenv.TempDir(t)
	treetest.Odd(t, ref, treetest.Options{Seed: 6})
	work := filepath.Join(ref, "work")
	err := errors.Join(os.MkdirAll(filepath.Join(work, "dir/sub"), 0o755), os.WriteFile(filepath.Join(work, "dir/sub/inner"), []byte("inner"), 0o644))
	for _, name := range []string{"append", "rename", "chmod", "remove", "dir/remove", "link", "replaced"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(work, name), []byte("content of "+name), 0o644))
	}
	if err := errors.Join(err, os.Link(filepath.Join(work, "link"), filepath.Join(work, "linked"))); err != nil {
		t.Fatal(err)
	}
	im := mounttest.Image(t, ref)
	for mode, mounted := range modes {
		t.Run(string(mode), func(t *testing.T) {
			m := mounted(t, im)
			one, _, err := overlay(t, m.Dir())
			if err != nil {
				t.Fatal(err)
			}
			treetest.Check(t, ref, one, treetest.CompareOptions{})
			two, _, err := overlay(t, one)
			if err != nil {
				t.Fatalf("an overlay on the overlay: %v", err)
			}
			treetest.Check(t, ref, two, treetest.CompareOptions{})
			if three, _, err := overlay(t, two); err == nil {
				t.Log("three overlays can be stacked")
				treetest.Check(t, ref, three, treetest.CompareOptions{})
				if err := unix.Unmount(three, 0); err != nil {
					t.Error(err)
				}
			} else {
				t.Logf("two overlays can be stacked, the third: %v", err)
			}

			write(t, filepath.Join(two, "work"))
			written(t, filepath.Join(two, "work"), false)          // an overlay cannot index what lies on another
			treetest.Check(t, ref, one, treetest.CompareOptions{}) // whose upper directory nobody wrote to
			if err := unix.Unmount(two, 0); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(one, "work"))
			written(t, filepath.Join(one, "work"), true)
			if err := unix.Unmount(one, 0); err != nil {
				t.Fatal(err)
			}
			treetest.Check(t, ref, m.Dir(), treetest.CompareOptions{})
			if err := m.Unmount(t.Context(), false); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
	}
}

// write changes what is in the directory work.
func write(t *testing.T, work string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(work, name) }
	appendTo := func(name, text string) error {
		f, err := os.OpenFile(at(name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	}
	for what, err := range map[string]error{
		"append":         appendTo("append", ", and more"),
		"append to link": appendTo("link", ", and more"),
		"rename":         os.Rename(at("rename"), at("renamed")),
		"rename over":    os.Rename(at("replaced"), at("dir/replaced")),
		"rename a dir":   os.Rename(at("dir/sub"), at("moved")),
		"chmod":          unix.Chmod(at("chmod"), 0o6711),
		"remove":         os.Remove(at("remove")),
		"new":            os.WriteFile(at("new"), []byte("new"), 0o600),
		"xattr":          unix.Setxattr(at("chmod"), "user.new", []byte("1"), 0),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A directory in the place of one that was removed shows nothing of it.
	if err := errors.Join(os.RemoveAll(at("dir")), os.Mkdir(at("dir"), 0o755)); err != nil {
		t.Errorf("remove and make again: %v", err)
	}
}

// written tests that the directory work has what write left there. links says that names stay
// those of one file when it is copied up.
func written(t *testing.T, work string, links bool) {
	t.Helper()
	linked := "content of link"
	if links {
		linked += ", and more"
	}
	for name, want := range map[string]string{
		"append": "content of append, and more", "link": "content of link, and more", "linked": linked,
		"renamed": "content of rename", "moved/inner": "inner", "chmod": "content of chmod", "new": "new",
	} {
		if got, err := os.ReadFile(filepath.Join(work, name)); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v, want %q", name, got, err, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(work, "chmod"), &st); err != nil || st.Mode != unix.S_IFREG|0o6711 {
		t.Errorf("mode %o, %v after chmod", st.Mode, err)
	}
	for dir, want := range map[string]string{"": "append chmod dir link linked moved new renamed", "dir": ""} {
		entries, err := os.ReadDir(filepath.Join(work, dir))
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want || err != nil {
			t.Errorf("names in %q are %q, %v, want %q", dir, got, err, want)
		}
	}
}

// TestOverlayAttributes: what an overlay wrote into an image, as that of a container that was
// packed while it ran, has no power over the overlays of those who mount it.
func TestOverlayAttributes(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	ref, below := testenv.TempDir(t), testenv.TempDir(t)
	file := func(root, name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	set := map[string]map[string]string{ // attributes without their prefix
		"opaque":          {"opaque": "y"},
		"moved":           {"redirect": "/elsewhere"},
		"file":            {"metacopy": "", "redirect": "/elsewhere/other"},
		"whiteouts":       {"opaque": "x"},
		"whiteouts/empty": {"whiteout": ""},
		"escaped":         {"overlay.opaque": "y", "origin": "\x00\xfb"},
	}
	file(ref, "file", "its own")
	file(ref, "opaque/of-image", "image")
	file(ref, "moved/of-image", "image")
	file(ref, "whiteouts/empty", "")
	file(ref, "escaped", "image")
	file(below, "opaque/of-below", "below")
	file(below, "moved/of-below", "below")
	file(below, "whiteouts/of-below", "below")
	file(below, "elsewhere/other", "not it")
	for name, attrs := range set {
		for attr, value := range attrs {
			if err := unix.Setxattr(filepath.Join(ref, name), "trusted.overlay."+attr, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	im := mounttest.Image(t, ref)
	for mode, mounted := range modes {
		t.Run(string(mode), func(t *testing.T) {
			dir := mounted(t, im).Dir()
			shown(t, dir, "trusted.overlay.overlay.", set)
			merged := testenv.TempDir(t)
			testenv.Mounted(t, merged)
			if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, fmt.Sprintf("lowerdir=%s:%s,redirect_dir=follow,metacopy=on", dir, below)); err != nil {
				t.Fatal(err)
			}
			shown(t, merged, "trusted.overlay.", set)
			for name, want := range map[string]string{
				"file": "its own", "opaque/of-image": "image", "opaque/of-below": "below", "moved/of-image": "image", "moved/of-below": "below",
				"whiteouts/empty": "", "whiteouts/of-below": "below", "escaped": "image", "elsewhere/other": "not it",
			} {
				if got, err := os.ReadFile(filepath.Join(merged, name)); err != nil || string(got) != want {
					t.Errorf("%s has %q, %v, want %q", name, got, err, want)
				}
			}
			names, err := os.ReadDir(filepath.Join(merged, "whiteouts"))
			if err != nil || len(names) != 2 {
				t.Errorf("whiteouts has %v, %v, want both names", names, err)
			}
		})
	}
}

// shown tests that the attributes of set, and no others of overlays, are there under prefix.
func shown(t *testing.T, dir, prefix string, set map[string]map[string]string) {
	t.Helper()
	for name, attrs := range set {
		path := filepath.Join(dir, name)
		var want []string
		for attr, value := range attrs {
			want = append(want, prefix+attr)
			p := make([]byte, 100)
			if n, err := unix.Getxattr(path, prefix+attr, p); err != nil || string(p[:n]) != value {
				t.Errorf("%s: %s is %q, %v, want %q", name, prefix+attr, p[:max(n, 0)], err, value)
			}
		}
		list := make([]byte, 1000)
		n, err := unix.Listxattr(path, list)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
		got = slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "trusted.overlay.") })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}
