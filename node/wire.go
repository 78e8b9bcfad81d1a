package node

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/store/multi"
)

// Pong says who serves.
type Pong struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// MountRequest asks for a mount.
type MountRequest struct {
	Ref  string `json:"ref"`  // as ref.Ref.String writes it
	Dir  string `json:"dir"`  // mount point
	Mode string `json:"mode"` // as mount.ParseMode reads it; "" is auto
	// Deadline is in nanoseconds: how long a read waits for content; 0 is the default of
	// package image, negative for ever.
	Deadline time.Duration `json:"deadline_ns"`
	// Offline forbids the network: what is in the cache, or in a directory of this machine, can
	// be read.
	Offline bool `json:"offline"`
	// Allow has hosts that sources and redirects may lead to beyond the default policy, as
	// all.PolicyOptions has it.
	Allow []string `json:"allow,omitempty"`
	// Token is the caller's token for the hub of Ref, as credentials.File.Token returns it.
	// With "" the service reads its own credentials. It is neither logged nor shown.
	Token string `json:"token,omitempty"`
}

// UnmountRequest asks for the end of a mount.
type UnmountRequest struct {
	Dir  string `json:"dir"`
	Lazy bool   `json:"lazy"`
}

// PruneRequest asks for a smaller cache.
type PruneRequest struct {
	Bytes int64 `json:"bytes"` // what its files may take afterwards
}

// PruneResult says what a prune has done.
type PruneResult struct {
	Freed int64 `json:"freed"` // bytes
}

// MountInfo tells of a mount.
type MountInfo struct {
	Ref        string           `json:"ref"`
	Dir        string           `json:"dir"` // absolute, without symlinks
	Mode       mount.Mode       `json:"mode"`
	Reason     string           `json:"reason,omitempty"` // why auto did not take the best mode
	Rung       kernel.Rung      `json:"rung,omitempty"`   // in mode kernel: over the files, or over loop devices
	Digest     flist.Digest     `json:"digest"`
	TreeDigest flist.TreeDigest `json:"tree_digest"`
	Counts     flist.Counts     `json:"counts"`
	Since      time.Time        `json:"since"`
	Offline    bool             `json:"offline"`
	// Stale says that the hub was out of reach: this is the version known last.
	Stale bool `json:"stale"`
	// Detached says that the mount is out of sight, but programs still use it.
	Detached bool     `json:"detached"`
	Refused  []string `json:"refused"` // sources of the flist that are not followed, with the reason
	// Shared is where the image was mounted in mode kernel before: one device serves both, and
	// reads wait as long as that mount was told to.
	Shared  string              `json:"shared,omitempty"`
	Image   image.Stats         `json:"image"`
	Kernel  fusefs.Stats        `json:"kernel"` // what the kernel asked for
	Sources []multi.SourceStats `json:"sources"`
}

// Status tells of a node service.
type Status struct {
	Version string      `json:"version"`
	PID     int         `json:"pid"`
	Since   time.Time   `json:"since"`
	Dirs    StatusDirs  `json:"dirs"`
	Cache   cache.Stats `json:"cache"`
	Notes   []string    `json:"notes"`  // what a person should know, such as that the cache is only read
	Mounts  []MountInfo `json:"mounts"` // by directory
	Dead    []DeadMount `json:"dead"`   // mounts of services that have died, or that do not answer
}

// DeadMount is a mount that nobody serves.
type DeadMount struct {
	mount.Info
	Ref    string `json:"ref,omitempty"` // of the image, where it is known
	Reason string `json:"reason"`        // for people
	Try    string `json:"try"`           // commands that bring it back

	ours bool // of a service with this state directory
}

// StatusDirs are the directories of the service.
type StatusDirs struct {
	Cache string `json:"cache"`
	State string `json:"state"`
}

// ErrorBody is the body of an answer with a status of 400 or more.
type ErrorBody struct {
	Error ErrorInfo `json:"error"`
}

// ErrorInfo says what went wrong.
type ErrorInfo struct {
	Message string   `json:"message"`         // for people
	Kinds   []string `json:"kinds,omitempty"` // what kinds of failure it is; may be none
}

// kinds are the names of the kinds of failure on the wire. The first that an error is decides
// the status.
var kinds = []struct {
	name   string
	kind   error
	status int
}{
	{"not_running", ErrNotRunning, http.StatusServiceUnavailable},
	{"busy", unix.EBUSY, http.StatusConflict},
	{"dead_mount", unix.ENOTCONN, http.StatusConflict},
	{"not_a_directory", unix.ENOTDIR, http.StatusBadRequest},
	{"not_found", errs.ErrNotFound, http.StatusNotFound},
	{"corrupt", errs.ErrCorrupt, http.StatusUnprocessableEntity},
	{"bad_format", errs.ErrFormat, http.StatusBadRequest},
	{"unavailable", errs.ErrUnavailable, http.StatusServiceUnavailable},
	{"denied", errs.ErrDenied, http.StatusForbidden},
	{"no_space", errs.ErrFull, http.StatusInsufficientStorage},
	{"no_such_path", fs.ErrNotExist, http.StatusNotFound},
	{"exists", fs.ErrExist, http.StatusConflict},
	{"permission", fs.ErrPermission, http.StatusForbidden},
	{"invalid", fs.ErrInvalid, http.StatusBadRequest},
	{"unsupported", errors.ErrUnsupported, http.StatusNotImplemented},
	{"cancelled", context.Canceled, http.StatusServiceUnavailable},
	{"timeout", context.DeadlineExceeded, http.StatusGatewayTimeout},
}

// encodeError returns err as it goes over the wire.
func encodeError(err error) (status int, body ErrorBody) {
	status = http.StatusInternalServerError
	body.Error.Message = err.Error()
	for _, k := range kinds {
		if !errors.Is(err, k.kind) {
			continue
		}
		if len(body.Error.Kinds) == 0 {
			status = k.status
		}
		body.Error.Kinds = append(body.Error.Kinds, k.name)
	}
	return status, body
}

// Error is a failure that the service reports. It unwraps to the kinds of failure that the
// error was there.
type Error struct{ Info ErrorInfo }

// Error implements error.
func (e *Error) Error() string { return e.Info.Message }

// Unwrap returns the kinds; those that this program does not know are left out.
func (e *Error) Unwrap() []error {
	var all []error
	for _, name := range e.Info.Kinds {
		for _, k := range kinds {
			if k.name == name {
				all = append(all, k.kind)
			}
		}
	}
	return all
}
