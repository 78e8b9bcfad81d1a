package mounttest

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/internal/treetest"
)

// A real tree has so many entries that it tells something, and so few that it takes no time.
const (
	realMin = 100
	realMax = 5_000
)

var errEnough = errors.New("enough")

// Real compares mounts of trees that nobody made for a test with these trees, cold and warm.
func Real(t *testing.T, mount Mounter) {
	found := false
	for _, dir := range []string{"/usr/share/zoneinfo", "/usr/share/perl", "/etc/ssl"} {
		entries := 0
		err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
			if entries++; entries > realMax {
				return errEnough
			}
			return err
		})
		if err != nil || entries < realMin {
			continue
		}
		found = true
		t.Run(dir, func(t *testing.T) {
			t.Logf("%d entries", entries)
			at := mount(t, Image(t, dir))
			treetest.Check(t, dir, at, treetest.CompareOptions{})
			treetest.Check(t, dir, at, treetest.CompareOptions{})
		})
	}
	if !found {
		t.Error("this machine has no tree that suits")
	}
}
