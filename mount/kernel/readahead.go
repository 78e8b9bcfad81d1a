package kernel

import (
	"fmt"
	"os"
	"path/filepath"
)

// readAhead is how far the kernel reads ahead in a file of a mount, in KiB; its own default is
// 128. docs/performance.md has what others cost.
const readAhead = 1024

const bdiDir = "/sys/class/bdi"

// backing returns the read-ahead settings of the EROFS file systems that there are. EROFS over
// files numbers them by itself, and nothing tells which is whose.
func backing() map[string]bool {
	names, _ := filepath.Glob(filepath.Join(bdiDir, "erofs-*"))
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	return known
}

// raiseReadAhead raises the read-ahead of the one file system that is new since known. It does
// what it can: a kernel or a container may not let it.
func raiseReadAhead(known map[string]bool) {
	var fresh []string
	for name := range backing() {
		if !known[name] {
			fresh = append(fresh, name)
		}
	}
	if len(fresh) == 1 { // else somebody else mounts just now
		setReadAhead(fresh[0])
	}
}

func setReadAhead(dir string) {
	_ = os.WriteFile(filepath.Join(dir, "read_ahead_kb"), fmt.Appendf(nil, "%d\n", readAhead), 0)
}
