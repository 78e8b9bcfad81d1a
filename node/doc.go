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
//	mounts.json  the table of mounts for the next service; mounts.json.bad is one that could not
//	             be read
//	content      where the content devices are mounted
//	metadata     a link to the metadata images in Cache
//	keeper       the socket of the keeper
//
// Cache holds what may be lost but is worth keeping: the chunk cache (package cache), flists
// and what tags pointed to (package ref). Services with different state directories may share
// one; the first writes it, the others read beside it.
//
// # API
//
// JSON over HTTP/1.1 on the socket (docs/node-api.md has all of it), for the user that runs the service and for root; the
// peer's user id is taken from the kernel (SO_PEERCRED). Times are RFC 3339, sizes bytes.
//
//	GET  /v1/ping     -> Pong
//	GET  /v1/status   -> Status
//	GET  /v1/events   -> Event after Event, one a line; ?since=SEQ
//	GET  /v1/metrics  -> text, for Prometheus
//	POST /v1/mount    MountRequest -> MountInfo
//	POST /v1/unmount  UnmountRequest -> {}
//	POST /v1/prune    PruneRequest -> PruneResult
//	POST /v1/stop     -> {}, when everything is unmounted
//
// An answer with a status of 400 or more has [ErrorBody]. Fields are only added; a request
// with a field that the service does not know is refused, because what it asks for would not
// happen.
//
// # Events
//
// A service numbers its events from 1 and keeps the latest 256. The stream begins with those
// that are kept and were after the one given as since; without it, with all. It goes on until
// the service has ended or the reader goes away, and holds up nobody: a reader who is more
// than 256 events behind is told how many he missed. A since that this service has not
// reached is from one before it, and all is told.
//
// Read errors, wrong bytes and a full cache are found in the figures of images, sources and
// cache, where somebody looks after every warning in the log and every half minute; so all
// that is limited there, such as one read error a second of a chunk, is limited here.
//
// # Metrics
//
// Prometheus, text format 0.0.4. Counters begin with the service and never go back: what
// mounts counted stays in the sums when they end. Where a source serves several mounts, its
// latency is the mean of theirs.
//
//	zosfs_mounts{mode}, zosfs_kernel_requests_total{kind}
//	zosfs_reads_total, zosfs_read_bytes_total, zosfs_read_errors_total
//	zosfs_fetch_requests_total, zosfs_fetched_{bytes,idle_bytes,chunks}_total
//	zosfs_source_{requests,bytes,errors}_total{source}, zosfs_source_latency_seconds{source},
//	zosfs_source_quarantined{source}
//	zosfs_cache_{bytes,limit_bytes,chunks,read_only}, zosfs_cache_{hits,misses}_total,
//	zosfs_cache_{evicted_chunks,evicted_bytes,passed_chunks,damaged_chunks,write_errors}_total
//	zosfs_build_info{version,goversion}, process_resident_memory_bytes,
//	process_start_time_seconds, process_{open,max}_fds
//
// # Service manager
//
// A service that systemd or its like starts takes its socket from it (sd_listen_fds(3)), which
// must be node.sock in Dirs.State and stays when the service ends; says when it is ready, about
// to end, and how many mounts it has (sd_notify(3)); and tells the watchdog that it is well, at
// half the interval, as long as the API answers, for which all locks that requests need must be
// free. The units are in contrib/systemd.
//
// # Life
//
// [Run] serves until its context ends, somebody calls Stop, or nothing was mounted for
// [Options].Idle. Then it takes all mounts away; one that programs still use is taken out of
// sight at once, which is logged, and ends with the process. A mount that somebody else takes
// away, as umount(8) does, is dropped from the table, and what it held is given back. With
// [Options].KeepMounts, mounts in mode kernel are left to the next service instead, unless
// somebody calls Stop.
//
// When a service is killed, reads of its mounts in mode kernel wait: the keeper ([RunKeeper])
// holds the connection to the kernel and the table of mounts, and the next service goes on with
// both. Mounts in mode fuse are dead then, and reading them fails with ENOTCONN; so are those in
// mode kernel, with EIO for what is not in the page cache, when the keeper has died as well. The
// next service takes them away and makes them anew, from mounts.json in the state directory. What
// it cannot bring back is left as it is, is in its log and status with the reason and what to try,
// and is tried again by the service after it. A mount that is about to be made is in the table
// before it can be seen, so none is forgotten whenever the service dies; one in mode kernel that
// is in no table that can be read is dead, and told of as such.
//
// # Memory
//
// A mount takes what its tree takes (package image), the cache about 20 bytes a chunk. Beyond
// these the process has a soft limit of 40 MiB, unless GOMEMLIMIT is set: a garbage collector
// left alone would keep twice what a burst of reads once needed.
//
// # Concurrency
//
// All of the package is safe for concurrent use. The locks are leaves: table.mu, remains.mu,
// totals.mu, events.mu, prober.mu, memory.mu and host.mu, not held while anything is mounted,
// unmounted, read, saved or asked, and logFile.mu, which keeps lines whole and is held while one
// is written. Under told.mu figures are looked at and events.mu is taken.
//
// What must come one after the other has turns, which are held during I/O: service.saving while
// the table of mounts is saved, and, before or under it, host.turn while the host is made or the
// keeper is asked. Only who changes the mounts waits for them; status, metrics, events and ping do
// not. Each answer of the keeper is waited for for a few seconds; one that does not come means that
// there is no keeper.
package node
