package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/db"
)

// TestTreesPanic: an opening that panics fails for all who wait for it, and leaves nothing that
// later ones would wait for.
func TestTreesPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		ts := newTrees(func(db.FlistDigest) (*flist.Reader, error) {
			<-goOn
			panic("injected")
		})
		first, others := make(chan any), make(chan error)
		go func() {
			defer func() { first <- recover() }()
			_, _, _ = ts.get(t.Context(), db.FlistDigest{1})
		}()
		synctest.Wait()
		for range maxOpenings - 1 {
			go func() {
				_, _, err := ts.get(t.Context(), db.FlistDigest{1})
				others <- err
			}()
		}
		synctest.Wait()
		close(goOn)
		if v := <-first; v != "injected" {
			t.Errorf("who opens it gets %v, want the panic", v)
		}
		for range maxOpenings - 1 {
			if err := <-others; !errors.Is(err, errPanicked) {
				t.Errorf("who waits gets %v, want %v", err, errPanicked)
			}
		}
		opened := 0
		ts.openFile = func(db.FlistDigest) (*flist.Reader, error) {
			opened++
			return nil, errors.New("injected")
		}
		for range 2 * maxOpenings { // more than there are places
			if _, _, err := ts.get(t.Context(), db.FlistDigest{1}); err == nil {
				t.Error("an opening that fails succeeds")
			}
		}
		if opened != 2*maxOpenings || len(ts.open) != 0 {
			t.Errorf("%d openings, want %d; %d entries are left", opened, 2*maxOpenings, len(ts.open))
		}
	})
}

// TestTreesGivenUp: who does not wait any longer need not, and whoever does gets the flist.
func TestTreesGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn, want := make(chan struct{}), &flist.Reader{}
		ts := newTrees(func(db.FlistDigest) (*flist.Reader, error) {
			<-goOn
			return want, nil
		})
		opened := make(chan *flist.Reader)
		go func() {
			r, release, _ := ts.get(t.Context(), db.FlistDigest{1})
			release()
			opened <- r
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, _, err := ts.get(ctx, db.FlistDigest{1})
			gaveUp <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up gets %v, want %v", err, context.Canceled)
		}
		close(goOn)
		if r := <-opened; r != want {
			t.Errorf("who waited gets %p, want %p", r, want)
		}
		if e := ts.open[db.FlistDigest{1}]; e == nil || e.users != 0 {
			t.Errorf("the flist is not kept open, or in use: %+v", e)
		}
	})
}
