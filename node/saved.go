package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
)

// savedVersion is that of savedTable. Fields are only added; another version is not read.
const savedVersion = 1

// savedTable is the table of mounts as it outlives a service: in the keeper whole, in the file
// mounts.json of the state directory without tokens.
type savedTable struct {
	Version int `json:"version"`
	// Seq grows with every table: of two, the one with the larger is true.
	Seq    uint64       `json:"seq"`
	Mounts []savedMount `json:"mounts"`
}

// savedMount is a mount that a later service can take over or make again.
type savedMount struct {
	Request MountRequest `json:"request"`
	Dir     string       `json:"dir"`
	Mode    mount.Mode   `json:"mode"`
	Digest  flist.Digest `json:"digest"`
	Since   time.Time    `json:"since"`
	// In mode kernel: the number of the mount, the st_dev of the file system, how it was mounted,
	// and the size of the content device in bytes.
	ID         uint64      `json:"id,omitempty"`
	Dev        uint64      `json:"dev,omitempty"`
	Rung       kernel.Rung `json:"rung,omitempty"`
	DeviceSize int64       `json:"device_size,omitempty"`
	// TokenDropped says that the request had a token, which is not kept on disk.
	TokenDropped bool `json:"token_dropped,omitempty"`
	// Pending is one in the making, of which the kernel alone knows if it was made. Its Mode is what
	// was asked for.
	Pending bool `json:"pending,omitempty"`
	// Detached is out of sight: who uses it goes on, but it is not made again.
	Detached bool `json:"detached,omitempty"`
	// Failed says why it could not be brought back, as far as that was tried.
	Failed string `json:"failed,omitempty"`
}

func (d Dirs) mounts() string { return filepath.Join(d.State, "mounts.json") }

func (d Dirs) keeper() string { return filepath.Join(d.State, "keeper", "keeper.sock") }

// save writes the table of mounts for a later service: those that are there, those in the making,
// and those that could not be brought back. That it cannot is no failure of what was asked for,
// but is in the log.
func (s *service) save(ctx context.Context) {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.seq++
	t := savedTable{Version: savedVersion, Seq: s.seq, Mounts: append(s.table.pendingMounts(), s.remains.list()...)}
	for _, m := range s.table.list() {
		// Who uses one out of sight can go on with the next service if that takes it over.
		if !m.isDetached() || m.info.Mode == mount.Kernel && (!s.ending() || s.leaving.Load()) {
			t.Mounts = append(t.Mounts, m.saved())
		}
	}
	stale := true
	data, err := json.Marshal(t)
	if err == nil {
		stale, err = s.host.save(ctx, data)
	}
	if err != nil {
		s.log.Warn("the keeper does not know the mounts", "error", err)
	}
	if len(t.Mounts) == 0 && !stale {
		if err := os.Remove(s.dirs.mounts()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("the table of mounts stays", "error", err)
		}
		return
	}
	for i := range t.Mounts {
		v := &t.Mounts[i]
		v.TokenDropped, v.Request.Token = v.TokenDropped || v.Request.Token != "", ""
	}
	if data, err = json.Marshal(t); err == nil {
		err = atomicfile.WriteFile(s.dirs.mounts(), data, 0o600)
	}
	if err != nil {
		s.log.Warn("the table of mounts is not saved", "error", err)
	}
}

func (m *mounted) saved() savedMount {
	v := savedMount{Request: m.request, Dir: m.dir(), Mode: m.info.Mode, Digest: m.info.Digest, Since: m.info.Since, Detached: m.isDetached()}
	v.ID = m.mount.ID()
	v.Dev, v.Rung, v.DeviceSize = m.mount.Kernel()
	return v
}

// parseSaved reads what save has written.
func parseSaved(data []byte) (savedTable, error) {
	var t savedTable
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("table of mounts: %w: %w", errs.ErrCorrupt, err)
	}
	if t.Version != savedVersion {
		return t, fmt.Errorf("table of mounts of version %d: %w", t.Version, errs.ErrFormat)
	}
	return t, nil
}
