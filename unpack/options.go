package unpack

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Owners says whether uid and gid are restored.
type Owners int

const (
	// OwnersAuto restores them for root and leaves them alone for others.
	OwnersAuto Owners = iota
	// OwnersKeep restores them or fails.
	OwnersKeep
	// OwnersIgnore leaves everything with the user who unpacks.
	OwnersIgnore
)

// Options tune [Tree]. The zero value works.
type Options struct {
	Owners Owners
	// Over allows a directory that is not empty. What is in it stays, but for files that are
	// in the way: they are replaced, and never written into or followed.
	Over     bool
	Workers  int       // files that are filled at a time; 0: 16
	Progress *Progress // counts while the work goes on; nil: not wanted
}

// Progress counts what was restored so far. It is safe for concurrent use. The totals are
// set before anything else.
type Progress struct {
	Files, Bytes           atomic.Int64 // regular files, and their bytes with holes
	TotalFiles, TotalBytes atomic.Int64
}

// A Result says what was restored.
type Result struct {
	Entries int64 `json:"entries"` // names, the root not counted
	Files   int64 `json:"files"`   // regular files
	Bytes   int64 `json:"bytes"`   // written, that is without holes
	Devices List  `json:"devices"` // device nodes that this user may not make, left out
	Xattrs  List  `json:"xattrs"`  // with an attribute that this user or file system may not have
	// Modes lists files that lost setuid or setgid, because the owner they would run as was
	// not restored.
	Modes List `json:"modes"`
}

// listMax bounds the paths of a List.
const listMax = 100

// A List names paths in the image, at most 100 of them, in ascending order. Count counts all.
type List struct {
	Count int64    `json:"count"`
	Paths []string `json:"paths,omitempty"`
}

// lists guards the lists of a Result while workers add to them.
type lists struct {
	mu                     sync.Mutex
	devices, xattrs, modes List
}

func (l *lists) add(to *List, path func() string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to.Count++
	if len(to.Paths) < listMax {
		p := path()
		at, _ := slices.BinarySearch(to.Paths, p)
		to.Paths = slices.Insert(to.Paths, at, p)
	}
}
