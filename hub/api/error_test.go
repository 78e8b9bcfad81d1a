package api_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
)

// TestKinds ranges over all kinds, so that a new one cannot be forgotten in the table.
func TestKinds(t *testing.T) {
	for _, kind := range errs.All() {
		code := api.CodeOf(fmt.Errorf("wrapped: %w", kind))
		if code == api.CodeInternal {
			t.Errorf("CodeOf(%v) = %v: the kind has no code", kind, code)
			continue
		}
		if got := code.Kind(); !errors.Is(got, kind) {
			t.Errorf("%v.Kind() = %v, want %v", code, got, kind)
		}
		if got := api.StatusCode(code.Status()).Kind(); !errors.Is(got, kind) {
			t.Errorf("kind of status %d, as HEAD gives it, = %v, want %v", code.Status(), got, kind)
		}
	}
	if got := api.CodeOf(errors.New("something")); got != api.CodeInternal {
		t.Errorf("CodeOf(none of the kinds) = %v, want %v", got, api.CodeInternal)
	}
}

func TestStatusCode(t *testing.T) {
	for status, want := range map[int]api.Code{
		400: api.CodeBadRequest, 401: api.CodeUnauthenticated, 403: api.CodeDenied, 404: api.CodeNotFound, 405: api.CodeBadRequest,
		408: api.CodeUnavailable, 416: api.CodeRange, 418: api.CodeBadRequest, 429: api.CodeRateLimited,
		502: api.CodeUnavailable, 503: api.CodeUnavailable, 504: api.CodeUnavailable, 507: api.CodeFull,
	} {
		if got := api.StatusCode(status); got != want {
			t.Errorf("StatusCode(%d) = %v, want %v", status, got, want)
		}
	}
	if k := api.CodeRange.Kind(); k != nil {
		t.Errorf("CodeRange.Kind() = %v, want none", k)
	}
	if s := api.Code("news to us").Status(); s != 500 {
		t.Errorf("status of an unknown code = %d, want 500", s)
	}
}
