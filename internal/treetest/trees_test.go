package treetest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

func TestOddIsDeterministic(t *testing.T) {
	a, b := testenv.TempDir(t), testenv.TempDir(t)
	treetest.Odd(t, a, treetest.Options{Seed: 1})
	treetest.Odd(t, b, treetest.Options{Seed: 1})
	treetest.Check(t, a, b, treetest.CompareOptions{})
}

// TestOddAgainstCopy holds the tree against a copy that another program made of it.
func TestOddAgainstCopy(t *testing.T) {
	testenv.NeedTool(t, "cp")
	a, b := testenv.TempDir(t), testenv.TempDir(t)
	treetest.Odd(t, a, treetest.Options{})
	// cp knows no paths beyond PATH_MAX, and fills a hole of one byte.
	for _, name := range []string{"deep", "sparse/all-one-byte"} {
		if err := os.RemoveAll(filepath.Join(a, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", a+"/.", b).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	treetest.Check(t, a, b, treetest.CompareOptions{})
}

// TestOddHasIt looks for the oddities that a mistake in the maker could lose unseen.
func TestOddHasIt(t *testing.T) {
	dir := testenv.TempDir(t)
	treetest.Odd(t, dir, treetest.Options{})
	stat := func(name string) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return st
	}
	if st := stat("times/1901"); st.Mtim.Sec != -1<<31 {
		t.Errorf("times/1901 has mtime %d", st.Mtim.Sec)
	}
	if st := stat("times/last-of-int64"); st.Mtim.Sec != 9223372036 || st.Mtim.Nsec != 854775807 {
		t.Errorf("times/last-of-int64 has mtime %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	if st := stat("sparse/all"); st.Blocks != 0 || st.Size != 3<<20 {
		t.Errorf("sparse/all has %d blocks, %d bytes", st.Blocks, st.Size)
	}
	if st := stat("hardlinks/a/many"); st.Nlink != 1001 {
		t.Errorf("hardlinks/a/many has %d links", st.Nlink)
	}
	if st := stat("modes/file-7777"); st.Mode&0o7777 != 0o7777 {
		t.Errorf("modes/file-7777 has mode %o", st.Mode)
	}
	if n, err := unix.Lgetxattr(filepath.Join(dir, "xattrs/acl"), "system.posix_acl_access", nil); err != nil || n == 0 {
		t.Errorf("xattrs/acl: access list of %d bytes, %v", n, err)
	}
	if !testenv.Root() {
		return
	}
	if st := stat("special/char-4095-1048575"); st.Rdev != unix.Mkdev(4095, 1048575) {
		t.Errorf("special/char-4095-1048575 is %#x", st.Rdev)
	}
	if st := stat("owners/file-4294967294-4294967294"); st.Uid != 1<<32-2 || st.Gid != 1<<32-2 {
		t.Errorf("owners: %d:%d", st.Uid, st.Gid)
	}
	if st := stat("owners/setuid"); st.Mode&0o7777 != 0o6755 {
		t.Errorf("owners/setuid has mode %o", st.Mode)
	}
}

func TestOddBig(t *testing.T) {
	dir := testenv.TempDir(t)
	treetest.Odd(t, dir, treetest.Options{Big: true})
	for name, size := range map[string]int64{"big/sparse": 5<<30 + 123, "big/just-above": 4<<30 + 1} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || fi.Size() != size {
			t.Errorf("%s has %v bytes (%v), want %d", name, fi.Size(), err, size)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "many-100000"))
	if err != nil || len(entries) != 100_000 {
		t.Errorf("many-100000 has %d entries, %v", len(entries), err)
	}
}
