// Package node is the node service: one process for a state directory, with one cache and
// many mounts, and the client that speaks to it.
//
// # Directories
//
// [Dirs] names two. State holds what belongs to the running process:
//
//	lock         held as long as the service runs (flock), with its process id
//	node.sock    the API, mode 0600
//	node.log     the log of a service that was started in the background, and node.log.1
//
// Cache holds what may be lost but is worth keeping: the chunk cache (package cache), flists
// and what tags pointed to (package ref). Services with different state directories may share
// one; the first writes it, the others read beside it.
//
// # API
//
// JSON over HTTP/1.1 on the socket, for the user that runs the service and for root; the
// peer's user id is taken from the kernel (SO_PEERCRED). Times are RFC 3339, sizes bytes.
//
//	GET  /v1/ping     -> Pong
//	GET  /v1/status   -> Status
//	POST /v1/mount    MountRequest -> MountInfo
//	POST /v1/unmount  UnmountRequest -> {}
//	POST /v1/prune    PruneRequest -> PruneResult
//	POST /v1/stop     -> {}, when everything is unmounted
//
// An answer with a status of 400 or more has [ErrorBody]. Fields are only added; a request
// with a field that the service does not know is refused, because what it asks for would not
// happen.
//
// # Life
//
// [Run] serves until its context ends, somebody calls Stop, or nothing was mounted for
// [Options].Idle. Then it takes all mounts away; one that programs still use is taken out of
// sight at once, which is logged, and ends with the process. A mount that somebody else takes
// away, as umount(8) does, is dropped from the table, and what it held is given back. A
// service that is killed leaves its mounts dead: reading them fails with ENOTCONN; the next
// service names them in its log and status, and [Client.Unmount] takes them away.
//
// # Memory
//
// A mount takes what its tree takes (package image), the cache about 20 bytes a chunk. Beyond
// these the process has a soft limit of 32 MiB, unless GOMEMLIMIT is set: a garbage collector
// left alone would keep twice what a burst of reads once needed.
//
// # Concurrency
//
// All of the package is safe for concurrent use. The locks are leaves: table.mu, prober.mu and
// memory.mu, not held while anything is mounted, unmounted, read or asked, and logFile.mu, which keeps
// lines whole and is held while one is written.
package node
