package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/mount"
)

// LeftMount is a mount that the last service had.
type LeftMount struct {
	Dir  string     `json:"dir"` // absolute, without symlinks
	Ref  string     `json:"ref"`
	Mode mount.Mode `json:"mode"`
}

// Left returns the mounts that the service with the directories d has, or had when it ended
// without taking them away; the next one goes on with them. It asks nobody.
func Left(d Dirs) ([]LeftMount, error) {
	p, err := os.ReadFile(d.mounts())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("table of mounts: %w", err)
	}
	var t savedTable
	if err := json.Unmarshal(p, &t); err != nil {
		return nil, fmt.Errorf("table of mounts: %w: %w", errs.ErrCorrupt, err)
	}
	var left []LeftMount
	for _, m := range t.Mounts {
		left = append(left, LeftMount{Dir: m.Dir, Ref: m.Request.Ref, Mode: m.Mode})
	}
	return left, nil
}
