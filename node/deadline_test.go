package node_test

import (
	"testing"
	"time"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/node"
)

// TestSharedDeadline mounts an image again with another deadline, which cannot hold, since one
// device serves both: the answer says where the one that holds was given.
func TestSharedDeadline(t *testing.T) {
	testenv.NoLeaks(t)
	needKernel(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 3), "shared")
	s := serve(t, node.Options{})
	show := func(mode string, d time.Duration) node.MountInfo {
		t.Helper()
		info, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: point(t), Mode: mode, Token: w.token, Deadline: d})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	one := show("kernel", time.Minute)
	for _, tt := range []struct {
		mode     string
		deadline time.Duration
		want     string
	}{{"kernel", time.Minute, ""}, {"fuse", time.Second, ""}, {"kernel", time.Second, one.Dir}} {
		if got := show(tt.mode, tt.deadline).Shared; got != tt.want {
			t.Errorf("mode %s, deadline %v: shared with %q, want %q", tt.mode, tt.deadline, got, tt.want)
		}
	}
}
