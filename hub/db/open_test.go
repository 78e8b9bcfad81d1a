package db_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/hub/db"
)

// TestOpenTogether opens a new database many times at once, as a hub and the command that
// makes its first token do.
func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			d, err := db.Open(t.Context(), path)
			if err != nil {
				return err
			}
			return d.Close()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
