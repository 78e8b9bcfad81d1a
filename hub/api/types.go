package api

import (
	"fmt"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

// A Scope is what a token may do; each includes those before it.
type Scope string

// The scopes, from the least.
const (
	ScopeRead  Scope = "read"  // read the repositories of the user, and public ones
	ScopeWrite Scope = "write" // and put blobs, publish, tag, change who may read
	ScopeAdmin Scope = "admin" // and everything, for every owner: the operator's scope
)

// Level returns 1, 2, 3 for read, write, admin, 0 for anything else.
func (s Scope) Level() int {
	switch s {
	case ScopeRead:
		return 1
	case ScopeWrite:
		return 2
	case ScopeAdmin:
		return 3
	}
	return 0
}

// CheckScope reports with errs.ErrFormat that s is no scope.
func CheckScope(s Scope) error {
	if s.Level() == 0 {
		return fmt.Errorf("scope %.40q: want read, write or admin: %w", string(s), errs.ErrFormat)
	}
	return nil
}

// TokenPrefix begins every token, so that scanners for leaked secrets can know one.
const TokenPrefix = "zosfs_"

// Info is the answer to GET /v1.
type Info struct {
	Name     string `json:"name" doc:"Always zosfs-hub."`
	Protocol string `json:"protocol" doc:"Version of the protocol."`
	Version  string `json:"version" doc:"Version of the program."`
	Limits   Limits `json:"limits"`
}

// Limits are what the hub takes.
type Limits struct {
	BlobSize  int64 `json:"blob_size" doc:"Largest blob, in bytes."`
	FlistSize int64 `json:"flist_size" doc:"Largest flist as shipped, in bytes."`
	Locate    int   `json:"locate" doc:"Most chunks in one look-up."`
	Page      int   `json:"page" doc:"Most rows in one answer."`
}

// Whoami is the answer to GET /v1/whoami.
type Whoami struct {
	User    string     `json:"user"`
	Token   string     `json:"token" doc:"Name of the token."`
	Scope   Scope      `json:"scope"`
	Pattern string     `json:"pattern,omitempty" doc:"Repositories the token is narrowed to, as OWNER/NAME with '*'."`
	Expires *time.Time `json:"expires,omitempty"`
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Name    string     `json:"name" doc:"What the token is for." maxLength:"100"`
	Scope   Scope      `json:"scope" enum:"read,write,admin" doc:"At most that of the token that asks."`
	Pattern string     `json:"pattern,omitempty" doc:"Narrows the token to repositories, as OWNER/NAME with '*'. A narrowed token passes its own pattern on."`
	Expires *time.Time `json:"expires,omitempty" doc:"At most that of the token that asks."`
}

// Token is a token without its secret.
type Token struct {
	ID       int64      `json:"id"`
	User     string     `json:"user"`
	Name     string     `json:"name"`
	Scope    Scope      `json:"scope"`
	Pattern  string     `json:"pattern,omitempty"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires,omitempty"`
	LastUsed *time.Time `json:"last_used,omitempty" doc:"To about ten minutes."`
	Revoked  *time.Time `json:"revoked,omitempty"`
}

// NewToken is the one answer that holds a secret.
type NewToken struct {
	Secret string `json:"secret" doc:"The token itself. It is not kept and cannot be shown again."`
	Token  Token  `json:"token"`
}

// Tokens is the answer to GET /v1/tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// Repo is a repository.
type Repo struct {
	Owner   string    `json:"owner"`
	Name    string    `json:"name"`
	Public  bool      `json:"public" doc:"Whether everybody may read it."`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated" doc:"When a tag moved last."`
	Tags    int64     `json:"tags"`
}

// RepoPatch changes a repository.
type RepoPatch struct {
	Public bool `json:"public" doc:"Whether everybody may read it."`
}

// Repos is a page of repositories in order of owner and name.
type Repos struct {
	Repos []Repo `json:"repos"`
	Next  string `json:"next,omitempty" doc:"Value of after for the next page; absent on the last."`
}

// Counts sums an flist up.
type Counts struct {
	Entries int64 `json:"entries" doc:"Names, the root not counted."`
	Files   int64 `json:"files"`
	Dirs    int64 `json:"dirs"`
	Objects int64 `json:"objects"`
	Chunks  int64 `json:"chunks"`
	Blobs   int64 `json:"blobs"`
	Size    int64 `json:"size" doc:"Bytes of all files."`
	Stored  int64 `json:"stored" doc:"Bytes of all chunks as stored."`
}

// Flist is one immutable version of a tree.
type Flist struct {
	Digest  Digest    `json:"digest" doc:"BLAKE3-256 of the shipped file."`
	Tree    Digest    `json:"tree" doc:"Tree digest."`
	Size    int64     `json:"size" doc:"Bytes of the shipped file."`
	Counts  Counts    `json:"counts"`
	Created time.Time `json:"created"`
}

// Flists is a page of versions, newest first.
type Flists struct {
	Flists []Flist `json:"flists"`
	Next   string  `json:"next,omitempty" doc:"Value of before for the next page; absent on the last."`
}

// Tag is a name that points at an flist.
type Tag struct {
	Name  string    `json:"name"`
	Moved time.Time `json:"moved" doc:"When it was made to point there."`
	Flist Flist     `json:"flist"`
}

// Tags is a page of tags in order of names.
type Tags struct {
	Tags []Tag  `json:"tags"`
	Next string `json:"next,omitempty" doc:"Value of after for the next page; absent on the last."`
}

// Move is one step in the history of a tag.
type Move struct {
	Digest *Digest   `json:"digest" doc:"Where it pointed from then on; null when it was deleted."`
	User   string    `json:"user"`
	At     time.Time `json:"at"`
}

// Moves is the history of a tag, newest first, at most a page of it.
type Moves struct {
	Moves []Move `json:"moves"`
}

// Blob names a blob and gives its size in bytes.
type Blob struct {
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"`
}

// Blobs is a page of blobs in ascending order of digests.
type Blobs struct {
	Blobs []Blob `json:"blobs"`
	Next  string `json:"next,omitempty" doc:"Value of after for the next page; absent on the last."`
}
