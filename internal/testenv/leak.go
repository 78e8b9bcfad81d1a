package testenv

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeaks fails the test if goroutines that it started are still there when it has ended.
// Call it first, so that it looks last, after all other clean-up. It is not for tests that
// run in parallel with others.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		t.Helper()
		if err := goleak.Find(before); err != nil {
			t.Errorf("goroutines left: %v", err)
		}
	})
}
