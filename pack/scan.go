package pack

import (
	"context"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// A scanner lists directories. It is not safe for concurrent use, but for its dirs.
type scanner struct {
	root  *dir
	dirs  dirTable
	match *patternmatcher.PatternMatcher // nil: nothing is excluded
	reach []reach                        // of the patterns that begin with "!"
	oneFS bool
	buf   []byte
}

// newScanner opens the directory path. The caller closes dirs when nobody uses it.
func newScanner(path string, o Options) (*scanner, unix.Stat_t, error) {
	var st unix.Stat_t
	s := &scanner{oneFS: o.OneFileSystem, buf: make([]byte, 64<<10)}
	if len(o.Exclude) > 0 {
		m, err := patternmatcher.New(o.Exclude)
		if err != nil {
			return nil, st, err
		}
		s.match = m
		for _, p := range m.Patterns() {
			if !p.Exclusion() {
				continue
			}
			s.reach = append(s.reach, reachOf(p.String()))
		}
	}
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, st, err
	}
	s.root = &dir{ident: identOf(&st), fd: fd, users: 1}
	s.dirs.open = []*dir{s.root}
	return s, st, nil
}

// walk calls block for each directory in canonical order. block returns the directories
// that it found in it, in ascending order of names.
func (s *scanner) walk(ctx context.Context, block func(*dir) ([]*dir, error)) error {
	todo := []*dir{s.root}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.oneFS && d.ident.dev != s.root.ident.dev {
			continue
		}
		subs, err := block(d)
		if err != nil {
			return err
		}
		for i := len(subs) - 1; i >= 0; i-- {
			todo = append(todo, subs[i])
		}
	}
	return nil
}

// An entry is what a scan finds under a name.
type entry struct {
	name string
	st   unix.Stat_t
	err  error // of the stat
	dir  *dir  // of a directory
}

// each calls visit for the entries of d in ascending order of names; fd is d's descriptor.
// The entry holds until visit returns. It reports whether d changed since it was first seen.
func (s *scanner) each(d *dir, visit func(fd int, e *entry) error) (changed bool, err error) {
	fd, err := s.dirs.borrow(d)
	if err != nil {
		return false, err
	}
	defer s.dirs.release(d)
	names, err := listDir(fd, s.buf)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		e := entry{name: name}
		drop, info, err := s.excluded(d, name)
		if err != nil {
			return false, err
		}
		if drop && !s.reaches(d, name) {
			continue
		}
		if e.st, e.err = fstatat(fd, name); e.err == nil && e.st.Mode&unix.S_IFMT == unix.S_IFDIR {
			e.dir = &dir{parent: d, name: name, ident: identOf(&e.st), match: info, fd: -1}
		} else if drop {
			continue
		}
		if err := visit(fd, &e); err != nil {
			return false, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	now, then := identOf(&st), d.ident
	return now.mtime != then.mtime || now.ctime != then.ctime, nil
}

func (s *scanner) excluded(d *dir, name string) (bool, patternmatcher.MatchInfo, error) {
	if s.match == nil {
		return false, patternmatcher.MatchInfo{}, nil
	}
	return s.match.MatchesUsingParentResults(d.join(name), d.match)
}

// A reach is where a pattern that begins with "!" can keep something.
type reach struct {
	path string // up to the first wildcard, whole elements, with a slash at the end unless empty
	deep bool   // anywhere below path, not only at it
}

func reachOf(pattern string) reach {
	at := strings.IndexAny(pattern, "*?[\\")
	if at < 0 {
		return reach{path: pattern + "/"}
	}
	return reach{path: pattern[:strings.LastIndexByte(pattern[:at], '/')+1], deep: true}
}

// reaches reports whether a directory must be walked, and so be kept, although it is
// excluded, because a pattern with "!" may keep something in it.
func (s *scanner) reaches(d *dir, name string) bool {
	if len(s.reach) == 0 {
		return false
	}
	path := d.join(name) + "/"
	for _, r := range s.reach {
		if strings.HasPrefix(r.path, path) || r.deep && strings.HasPrefix(path, r.path) {
			return true
		}
	}
	return false
}

// count walks the tree for the totals of a progress display. What it cannot read it leaves
// to the pack to find.
func count(ctx context.Context, path string, o Options) error {
	s, _, err := newScanner(path, o)
	if err != nil {
		return nil
	}
	defer s.dirs.close()
	linked := make(map[inode]uint64)
	err = s.walk(ctx, func(d *dir) (subs []*dir, _ error) {
		_, _ = s.each(d, func(_ int, e *entry) error {
			switch {
			case e.err != nil:
			case e.dir != nil:
				subs = append(subs, e.dir)
			case e.st.Mode&unix.S_IFMT == unix.S_IFREG && firstLink(linked, &e.st):
				o.Progress.TotalFiles.Add(1)
				o.Progress.TotalBytes.Add(e.st.Size)
			}
			return nil
		})
		return subs, nil
	})
	o.Progress.Counted.Store(err == nil)
	return err
}

// firstLink reports whether st was not met before. It forgets inodes whose links were all
// met.
func firstLink(left map[inode]uint64, st *unix.Stat_t) bool {
	if st.Nlink <= 1 {
		return true
	}
	n, met := left[inodeOf(st)]
	if !met {
		left[inodeOf(st)] = uint64(st.Nlink) - 1
	} else if n--; n == 0 {
		delete(left, inodeOf(st))
	} else {
		left[inodeOf(st)] = n
	}
	return !met
}
