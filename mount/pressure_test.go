package mount_test

import (
	"os"
	"testing"
	"time"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/dir"
)

// enterGroup puts this process into a group of testenv.MemoryGroup.
func enterGroup(procs string) error {
	if procs == "" {
		return nil
	}
	return os.WriteFile(procs, []byte("0"), 0)
}

// TestMemoryPressure has a service and a reader share less memory than a third of what is read:
// the page cache of the mount is taken back while the service that fills it, and needs memory
// for that, works. Nobody waits for the other for ever, and nobody is killed.
func TestMemoryPressure(t *testing.T) {
	const files, size = 20, 15 << 20
	limit := int64(96 << 20)
	if testenv.Race {
		limit *= 3
	}
	group := testenv.NeedMemoryGroup(t, limit)
	ref, store := testenv.TempDir(t), testenv.TempDir(t)
	patterned(t, ref, files, size)
	j := newJob(t, store, mounttest.Pack(t, ref, must(dir.New(store)), 0))
	j.Cache, j.CacheSize, j.Group = testenv.TempDir(t), 128<<20, group.Procs()
	host, _ := startHost(t, j, nil)
	r := startReader(t, readJob{Ref: ref, Dirs: []string{j.Mounts[0].Dir}, Once: true, Group: group.Procs()})
	late := time.AfterFunc(time.Minute, func() { // in vain, for each other
		t.Error("the reader does not come to an end")
		_ = r.cmd.Process.Kill()
		_ = host.cmd.Process.Kill()
	})
	r.wait(t)
	late.Stop()
	if r.files != 2*files {
		t.Errorf("%d files were read, want %d", r.files, 2*files)
	}
	kills, err := group.Kills()
	if err != nil || kills != 0 {
		t.Errorf("%d processes were killed for lack of memory, %v", kills, err)
	}
	peak, err := group.Peak()
	if err != nil || peak < limit*9/10 {
		t.Errorf("the most memory in use was %d bytes, %v; the limit of %d was not felt", peak, err, limit)
	}
	t.Logf("%d MiB read twice within %d MiB", files*size>>20, peak>>20)
	host.tell(t, "close")
}

// patterned makes files in dir that compress well, and no piece of which is like another.
func patterned(t *testing.T, dir string, files, size int) {
	t.Helper()
	p := make([]byte, size)
	for i := range files {
		for at := 0; at < size; at += 4096 {
			block := p[at : at+4096]
			for k := range block {
				block[k] = byte(k)
			}
			copy(block, []byte{byte(i), byte(at >> 12), byte(at >> 20)})
		}
		if err := os.WriteFile(dir+"/"+string(rune('a'+i)), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
