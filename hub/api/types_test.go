package api_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
)

func TestScopes(t *testing.T) {
	if r, w, a := api.ScopeRead.Level(), api.ScopeWrite.Level(), api.ScopeAdmin.Level(); r >= w || w >= a {
		t.Error("the scopes are not in order")
	}
	for _, s := range []api.Scope{"", "root", "Read", "read,write"} {
		if err := api.CheckScope(s); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("CheckScope(%q) = %v, want %v", s, err, errs.ErrFormat)
		}
	}
}

func TestDigestJSON(t *testing.T) {
	want := api.Digest{1, 2, 3}
	p, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Digest
	if err := json.Unmarshal(p, &got); err != nil || got != want {
		t.Errorf("Unmarshal(%s) = %v, %v, want %v", p, got, err, want)
	}
	if err := json.Unmarshal([]byte(`"0102"`), &got); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Unmarshal(short) = %v, want %v", err, errs.ErrFormat)
	}
}
