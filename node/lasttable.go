package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lastTable returns what the service before had mounted: held is what the keeper has, nil if
// nothing. Of two copies that can be read it is the newer one. One that cannot be read is put
// aside, not written over: it may be that of another version.
func (s *service) lastTable(ctx context.Context, held []byte) []*savedMount {
	var good []savedTable
	var bad []error
	if held != nil {
		t, err := parseSaved(held)
		if err == nil {
			good = append(good, t)
		} else {
			bad = append(bad, fmt.Errorf("the keeper's: %w", errors.Join(err, s.host.putAside(ctx, held))))
		}
	}
	data, err := os.ReadFile(s.dirs.mounts())
	if !errors.Is(err, fs.ErrNotExist) {
		var t savedTable
		if err == nil {
			t, err = parseSaved(data)
		}
		if err == nil {
			good = append(good, t)
		} else {
			bad = append(bad, fmt.Errorf("%s, now %s: %w", s.dirs.mounts(), s.dirs.unread(), errors.Join(err, os.Rename(s.dirs.mounts(), s.dirs.unread()))))
		}
	}
	switch {
	case len(bad) > 0 && len(good) > 0:
		s.log.Warn("a table of mounts cannot be read, the other copy is taken", "error", errors.Join(bad...))
	case len(bad) > 0:
		s.lost = fmt.Sprintf("which mounts an earlier service had is not known: %v", errors.Join(bad...))
		s.log.Error("which mounts an earlier service had is not known: those that are left are listed as dead", "error", errors.Join(bad...))
	}
	return s.newest(good)
}

// unread is where a table of mounts that cannot be read is put aside.
func (d Dirs) unread() string { return d.mounts() + ".bad" }

// newest returns the mounts of the newest table. Where that is a file, which has no tokens, it takes
// them from the older one of the keeper.
func (s *service) newest(tables []savedTable) []*savedMount {
	var last savedTable
	tokens := map[string]string{}
	key := func(v savedMount) string { return v.Request.Ref + "\x00" + v.Dir }
	for _, t := range tables {
		if last.Version == 0 || t.Seq > last.Seq {
			last = t
		}
		for _, v := range t.Mounts {
			if v.Request.Token != "" {
				tokens[key(v)] = v.Request.Token
			}
		}
	}
	s.seq = last.Seq
	var all []*savedMount
	for _, v := range last.Mounts {
		if v.TokenDropped && tokens[key(v)] != "" {
			v.TokenDropped, v.Request.Token = false, tokens[key(v)]
		}
		all = append(all, &v)
	}
	return all
}
