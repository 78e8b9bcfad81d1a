package image_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/image"
)

// mapped returns how many bytes of mapped flists are in the memory of this process.
func mapped(t *testing.T) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	ours := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), "zosfs-flist-") {
			ours = true
		}
		if kib, ok := strings.CutPrefix(lines.Text(), "Rss:"); ok && ours {
			v, err := strconv.Atoi(strings.Fields(kib)[0])
			if err != nil {
				t.Fatal(err)
			}
			n, ours = n+v<<10, false
		}
	}
	return n
}

// TestFlistIsNotKeptInMemory: what the tree holds is not in memory a second time.
func TestFlistIsNotKeptInMemory(t *testing.T) {
	var specs []spec
	for i := range 5000 {
		specs = append(specs, spec{path: fmt.Sprintf("%032d", i)})
	}
	before := mapped(t)
	w := build(t, packing{}, specs...)
	opened := mapped(t) - before
	if opened < 100<<10 {
		t.Fatalf("an flist that was just opened has %d bytes in memory, so this tests nothing", opened)
	}
	im := w.open(t, nil, image.Options{})
	for _, with := range []string{"no tree", "a tree"} {
		if n := mapped(t) - before; n > opened/4 {
			t.Errorf("an image with %s has %d bytes of its flist in memory, %d when it was opened", with, n, opened)
		}
		if got := im.Tree().Len(); got != 5001 {
			t.Errorf("Tree().Len() = %d, want 5001", got)
		}
	}
}
