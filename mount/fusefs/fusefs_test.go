package fusefs_test

import (
	"testing"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// mount mounts im for the time of the test.
func mount(t *testing.T, im *image.Image, o fusefs.Options) *fusefs.Server {
	t.Helper()
	testenv.NeedFUSE(t)
	dir := testenv.TempDir(t)
	var s *fusefs.Server
	t.Cleanup(func() { // after the unmount, which is registered next
		if s != nil {
			s.Wait()
		}
	})
	testenv.Mounted(t, dir)
	var err error
	s, err = fusefs.Mount(t.Context(), im, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuite(t *testing.T) {
	// As root only: the directory is no other for the rest.
	o := mounttest.Options{Big: testenv.Root()}
	mounttest.Test(t, o, func(t *testing.T, im *image.Image) string {
		return mount(t, im, fusefs.Options{}).Dir()
	})
}

func TestFaults(t *testing.T) {
	mounttest.Faults(t, func(t *testing.T, im *image.Image) string {
		return mount(t, im, fusefs.Options{}).Dir()
	})
}
