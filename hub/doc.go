// Package hub is the web service that keeps flists and blobs for many.
//
// Below the data directory lie hub.db (the rows, package db), blobs/ (files by digest, as
// package store/dir has them), flists/ (shipped flists by digest) and tmp/ (uploads on
// their way); the last three lie on one file system. The protocol is normative in
// docs/protocol.md; [Server.Handler] serves it together with the page that shows public
// repositories.
//
// # What is trusted
//
// An upload becomes visible in this order: its bytes are received and compared with their
// digest, every chunk of a blob is opened and verified (of an flist every row, and every
// blob and chunk that it names against what is held), the file is made durable under its
// name, and rows in one transaction say that it is there and who may read it. Only what has
// rows is there. A crash between any two steps leaves a file that nobody is shown and that
// the next upload of the same bytes finds again; what was acknowledged has its rows.
//
// # Concurrency
//
// A Server is safe for concurrent use. One process serves a data directory (a lock file
// sees to that); [CreateToken] and its like work beside it. The one lock above the database
// is per blob digest: it keeps the file and the rows of one blob together while an upload
// and a deletion of it meet.
package hub
