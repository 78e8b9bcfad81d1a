package mount

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/mount/kernel"
)

// touch notes that an image is in use now; what cannot be noted is trimmed sooner.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// trim removes the metadata images used least recently until the rest takes at most limit bytes.
// Those of mounts stay, for the next mount of them; a mount does not need their names.
func (h *Host) trim(limit int64) {
	entries, err := os.ReadDir(h.o.Images)
	if err != nil {
		h.o.Log.Warn("metadata images are not trimmed", "error", err)
		return
	}
	atomicfile.Sweep(h.o.Images)
	var kept []fs.FileInfo
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), kernel.Suffix)
		d, err := flist.ParseDigest(name)
		if !ok || err != nil || h.has(d) {
			continue
		}
		if info, err := e.Info(); err == nil {
			kept = append(kept, info)
		}
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int { return cmp.Compare(b.ModTime().UnixNano(), a.ModTime().UnixNano()) })
	sum := int64(0)
	for i, info := range kept {
		if sum += info.Size(); sum <= limit || i == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(h.o.Images, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.o.Log.Warn("a metadata image stays", "error", err)
		}
	}
}

func (h *Host) has(d flist.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[d] != nil
}
