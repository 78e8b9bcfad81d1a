package fusefs

import "sync/atomic"

// An op is a kind of request that the file system answers.
type op int

const (
	opLookup op = iota
	opGetAttr
	opReadlink
	opOpen
	opOpenDir
	opReadDir
	opReadDirPlus
	opRead
	opLseek
	opGetXattr
	opListXattr
	opStatFs
	opStatx
	opFlush
	opIoctl
	opOther // what only writers ask for
	opCount
)

var opNames = [opCount]string{
	"lookup", "getattr", "readlink", "open", "opendir", "readdir", "readdirplus", "read",
	"lseek", "getxattr", "listxattr", "statfs", "statx", "flush", "ioctl", "other",
}

// Stats counts what the kernel asked for since the mount.
type Stats struct {
	// Requests has the number of requests by kind, in lower case, such as "lookup"; kinds
	// that never came are absent. Notices that want no answer (FORGET) are not counted.
	Requests map[string]uint64 `json:"requests"`
	// ReadBytes is how many bytes of content went to the kernel.
	ReadBytes uint64 `json:"read_bytes"`
	// ReadErrors is how many READ requests failed.
	ReadErrors uint64 `json:"read_errors"`
}

// Total returns the number of all requests.
func (s Stats) Total() uint64 {
	var n uint64
	for _, v := range s.Requests {
		n += v
	}
	return n
}

type counters struct {
	ops        [opCount]atomic.Uint64
	readBytes  atomic.Uint64
	readErrors atomic.Uint64
}

func (c *counters) add(o op) { c.ops[o].Add(1) }

func (c *counters) stats() Stats {
	s := Stats{
		Requests:   make(map[string]uint64),
		ReadBytes:  c.readBytes.Load(),
		ReadErrors: c.readErrors.Load(),
	}
	for o, name := range opNames {
		if n := c.ops[o].Load(); n != 0 {
			s.Requests[name] = n
		}
	}
	return s
}
