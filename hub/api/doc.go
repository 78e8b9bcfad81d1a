// Package api says what a hub and its clients tell each other.
//
// It holds the JSON bodies, the names of error codes, the rules for names, and the binary
// codec of the chunk look-up, shared by package hub and package store/remote. The protocol
// itself is normative in docs/protocol.md.
//
// Everything here is plain data; functions are safe for concurrent use. What is decoded
// comes from a stranger: decoders check every length before they allocate.
package api

// Version is the version of the protocol; it is the first element of every path.
const Version = "v1"

// Limits of the protocol.
const (
	// MaxLocate is the largest number of chunks in one look-up.
	MaxLocate = 100_000
	// MaxPage is the largest number of rows in one answer, and how many there are when the
	// request does not say.
	MaxPage = 1000
	// MaxMissing is the largest number of blobs that a refused publication names.
	MaxMissing = 1000
	// MaxErrorSize is the largest error body that a client reads, in bytes.
	MaxErrorSize = 256 << 10
)

// Media types of bodies that are not JSON.
const (
	TypeBlob         = "application/vnd.zosfs.blob"
	TypeFlist        = "application/vnd.zosfs.flist"
	TypeLocate       = "application/vnd.zosfs.locate"
	TypeLocateAnswer = "application/vnd.zosfs.locate-answer"
)
