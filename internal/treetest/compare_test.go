package treetest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// plain makes a small tree with one of everything that a mutation needs.
func plain(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		os.Mkdir(in("dir"), 0o755),
		os.WriteFile(in("dir/file"), []byte("content"), 0o644),
		os.WriteFile(in("dir/twin"), []byte("content"), 0o644),
		os.WriteFile(in("one"), []byte("two names"), 0o644),
		os.Link(in("one"), in("two")),
		os.Symlink("dir/file", in("symlink")),
		os.WriteFile(in("sparse"), nil, 0o644),
		os.Truncate(in("sparse"), 1<<20),
		unix.Mkfifo(in("fifo"), 0o600),
		unix.Setxattr(in("dir/file"), "user.a", []byte("1"), 0),
	)
	if err == nil && testenv.Root() {
		err = unix.Mknod(in("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
	}
	if err != nil {
		t.Fatal(err)
	}
	stamp(t, dir)
	return dir
}

// stamp gives everything in dir the same mtime.
func stamp(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9, Nsec: 5}}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCompareFindsEachDifference(t *testing.T) {
	replace := func(path string, again func() error) error { return errors.Join(os.Remove(path), again()) }
	tests := []struct {
		name   string
		root   bool                    // needs it
		mutate func(in string) error   // in is the tree and "/"
		ignore treetest.CompareOptions // under which there is no difference; zero if there is none such
		want   []string                // path, a colon and the field
	}{
		{name: "nothing", mutate: func(string) error { return nil }},
		{
			name:   "mode",
			mutate: func(in string) error { return os.Chmod(in+"dir/file", 0o4644|os.ModeSetuid) },
			want:   []string{"dir/file: mode"},
		}, {
			name:   "mode of the root",
			mutate: func(in string) error { return os.Chmod(in, 0o711) },
			want:   []string{".: mode"},
		}, {
			name: "uid", root: true,
			mutate: func(in string) error { return os.Lchown(in+"symlink", 1, -1) },
			ignore: treetest.CompareOptions{IgnoreOwner: true},
			want:   []string{"symlink: uid"},
		}, {
			name: "gid", root: true,
			mutate: func(in string) error { return os.Lchown(in+"dir", -1, 1<<31) },
			ignore: treetest.CompareOptions{IgnoreOwner: true},
			want:   []string{"dir: gid"},
		}, {
			name: "mtime by a nanosecond",
			mutate: func(in string) error {
				return os.Chtimes(in+"fifo", time.Time{}, time.Unix(1e9, 6))
			},
			ignore: treetest.CompareOptions{IgnoreMTime: true},
			want:   []string{"fifo: mtime"},
		}, {
			name:   "content of the same size",
			mutate: func(in string) error { return os.WriteFile(in+"dir/file", []byte("contend"), 0) },
			want:   []string{"dir/file: content"},
		}, {
			name:   "size",
			mutate: func(in string) error { return os.Truncate(in+"sparse", 1<<20+4096) },
			want:   []string{"sparse: size", "sparse: content", "sparse: holes"},
		}, {
			name: "hole filled with zeros",
			mutate: func(in string) error {
				f, err := os.OpenFile(in+"sparse", os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt(make([]byte, 64<<10), 128<<10)
				return errors.Join(err, f.Close())
			},
			ignore: treetest.CompareOptions{IgnoreHoles: true},
			want:   []string{"sparse: holes"},
		}, {
			name: "symlink target",
			mutate: func(in string) error {
				return replace(in+"symlink", func() error { return os.Symlink("dir/twin", in+"symlink") })
			},
			want: []string{"symlink: target"},
		}, {
			name: "device number", root: true,
			mutate: func(in string) error {
				return replace(in+"device", func() error {
					return unix.Mknod(in+"device", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
				})
			},
			want: []string{"device: rdev"},
		}, {
			name: "type",
			mutate: func(in string) error {
				return replace(in+"fifo", func() error { return os.WriteFile(in+"fifo", nil, 0o600) })
			},
			want: []string{"fifo: type"},
		}, {
			name:   "entry less",
			mutate: func(in string) error { return os.Remove(in + "dir/twin") },
			want:   []string{"dir/twin: entry"},
		}, {
			name:   "entry more",
			mutate: func(in string) error { return os.WriteFile(in+"dir/more", nil, 0o644) },
			want:   []string{"dir/more: entry"},
		}, {
			name:   "name",
			mutate: func(in string) error { return os.Rename(in+"dir/twin", in+"dir/twi\n") },
			want:   []string{"dir/twin: entry", "dir/twi\n: entry"},
		}, {
			name:   "directory more",
			mutate: func(in string) error { return os.Mkdir(in+"dir/sub", 0o755) },
			want:   []string{"dir: nlink", "dir/sub: entry"},
		}, {
			name: "hard link became a copy",
			mutate: func(in string) error {
				return replace(in+"two", func() error { return os.WriteFile(in+"two", []byte("two names"), 0o644) })
			},
			want: []string{"one: names", "one: nlink", "two: hard link of", "two: names", "two: nlink"},
		}, {
			name: "copy became a hard link",
			mutate: func(in string) error {
				return errors.Join(os.Remove(in+"dir/twin"), unix.Removexattr(in+"dir/file", "user.a"),
					os.Link(in+"dir/file", in+"dir/twin"))
			},
			want: []string{"dir/file: names", "dir/file: nlink", "dir/file: xattr user.a",
				"dir/twin: hard link of", "dir/twin: names", "dir/twin: nlink"},
		}, {
			name:   "name outside of the tree",
			mutate: func(in string) error { return os.Link(in+"dir/file", filepath.Clean(in)+"-outside") },
			want:   []string{"dir/file: nlink"},
		}, {
			name:   "xattr value",
			mutate: func(in string) error { return unix.Setxattr(in+"dir/file", "user.a", []byte("2"), 0) },
			ignore: treetest.CompareOptions{IgnoreXattr: func(name string) bool { return name == "user.a" }},
			want:   []string{"dir/file: xattr user.a"},
		}, {
			name:   "xattr less",
			mutate: func(in string) error { return unix.Removexattr(in+"dir/file", "user.a") },
			ignore: treetest.CompareOptions{IgnoreXattr: func(name string) bool { return name == "user.a" }},
			want:   []string{"dir/file: xattr user.a"},
		}, {
			name:   "empty xattr more",
			mutate: func(in string) error { return unix.Setxattr(in+"dir", "user.e", nil, 0) },
			want:   []string{"dir: xattr user.e"},
		}, {
			name: "xattr of a symlink", root: true,
			mutate: func(in string) error { return unix.Lsetxattr(in+"symlink", "trusted.s", []byte("1"), 0) },
			want:   []string{"symlink: xattr trusted.s"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				testenv.NeedRoot(t)
			}
			a, b := plain(t), plain(t)
			t.Cleanup(func() { _ = os.Remove(b + "-outside") })
			if err := tt.mutate(b + "/"); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(tt.name, "mtime") {
				stamp(t, b)
			}
			var got []string
			for _, d := range compare(t, a, b, treetest.CompareOptions{}) {
				got = append(got, d.Path+": "+d.Field)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			o := tt.ignore
			if !o.IgnoreHoles && !o.IgnoreMTime && !o.IgnoreOwner && o.IgnoreXattr == nil {
				return
			}
			if diffs := compare(t, a, b, o); len(diffs) > 0 {
				t.Errorf("with that ignored: %v", diffs)
			}
		})
	}
}

func compare(t *testing.T, a, b string, o treetest.CompareOptions) []treetest.Diff {
	t.Helper()
	diffs, err := treetest.Compare(a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	return diffs
}

func TestCompareMissing(t *testing.T) {
	dir := testenv.TempDir(t)
	if _, err := treetest.Compare(dir, dir+"/none", treetest.CompareOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Compare with no tree: %v, want %v", err, os.ErrNotExist)
	}
}

func TestDiffString(t *testing.T) {
	d := treetest.Diff{Path: "a\x1b[31m\n\xff", Field: "mode", A: "0644", B: "0600"}
	if got, want := d.String(), `"a\x1b[31m\n\xff": mode: 0644, 0600`; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
}

// TestSnapshotStays compares a tree with what it was.
func TestSnapshotStays(t *testing.T) {
	dir := plain(t)
	before, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/one", 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range before.Diff(after, treetest.CompareOptions{}) {
		got = append(got, d.String())
	}
	want := []string{`"one": mode: 0644, 0600`, `"two": mode: 0644, 0600`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}
