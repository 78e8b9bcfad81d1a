package api

import (
	"errors"
	"net/http"

	"github.com/zosfs/zosfs/errs"
)

// A Code names a kind of failure in an error body. Clients decide by the code; codes are
// only ever added.
type Code string

// The codes of version 1.
const (
	CodeBadRequest      Code = "bad_request"     // the request breaks the protocol
	CodeUnauthenticated Code = "unauthenticated" // no token, or not a valid one
	CodeDenied          Code = "denied"          // the token may not do this
	CodeNotFound        Code = "not_found"       // not there, or not to be seen by the caller
	CodeConflict        Code = "conflict"        // the state of the hub forbids it
	CodeMissingBlobs    Code = "missing_blobs"   // a published flist names blobs that the caller has not put
	CodeTooLarge        Code = "too_large"       // the body is larger than the hub takes
	CodeRange           Code = "bad_range"       // the range lies outside
	CodeFormat          Code = "bad_format"      // the body is not in a format the hub reads
	CodeCorrupt         Code = "corrupt"         // the body is not what its digest or structure promises
	CodeRateLimited     Code = "rate_limited"    // too many requests; see Retry-After
	CodeUnavailable     Code = "unavailable"     // the hub cannot just now; see Retry-After
	CodeFull            Code = "no_space"        // disk or quota of the hub is exhausted
	CodeInternal        Code = "internal"        // a fault of the hub
)

// codes is the one table between codes, HTTP statuses and kinds of failure. The first row
// of a kind is the code that the kind becomes; the first row of a status is how a client
// reads an answer without a body, such as one to HEAD. A nil kind is none of the kinds.
var codes = []struct {
	code   Code
	status int
	kind   error
}{
	{CodeNotFound, http.StatusNotFound, errs.ErrNotFound},
	{CodeCorrupt, http.StatusUnprocessableEntity, errs.ErrCorrupt},
	{CodeFormat, http.StatusUnsupportedMediaType, errs.ErrFormat},
	{CodeUnavailable, http.StatusServiceUnavailable, errs.ErrUnavailable},
	{CodeRateLimited, http.StatusTooManyRequests, errs.ErrUnavailable},
	{CodeDenied, http.StatusForbidden, errs.ErrDenied},
	{CodeUnauthenticated, http.StatusUnauthorized, errs.ErrDenied},
	{CodeFull, http.StatusInsufficientStorage, errs.ErrFull},
	{CodeTooLarge, http.StatusRequestEntityTooLarge, errs.ErrFull},
	{CodeMissingBlobs, http.StatusConflict, errs.ErrNotFound},
	{CodeConflict, http.StatusConflict, nil},
	{CodeRange, http.StatusRequestedRangeNotSatisfiable, nil},
	{CodeBadRequest, http.StatusBadRequest, nil},
	{CodeInternal, http.StatusInternalServerError, errs.ErrUnavailable},
}

// Kind returns the kind of failure that c means to a client, nil if it is none of them. An
// internal fault of the hub is errs.ErrUnavailable to a client: another source may serve.
func (c Code) Kind() error {
	for _, row := range codes {
		if row.code == c {
			return row.kind
		}
	}
	return nil
}

// Status returns the HTTP status that goes with c, 500 for a code that is not known.
func (c Code) Status() int {
	for _, row := range codes {
		if row.code == c {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// CodeOf returns the code for err by its kind, CodeInternal if it has none.
func CodeOf(err error) Code {
	for _, row := range codes {
		if row.kind != nil && errors.Is(err, row.kind) {
			return row.code
		}
	}
	return CodeInternal
}

// StatusCode returns the code that an answer with an HTTP status of 400 or more has when
// its body does not tell. Statuses of proxies count as unavailable, others as bad requests.
func StatusCode(status int) Code {
	for _, row := range codes {
		if row.status == status {
			return row.code
		}
	}
	if status >= 500 || status == http.StatusRequestTimeout {
		return CodeUnavailable
	}
	return CodeBadRequest
}

// ErrorBody is the body of each answer with a status of 400 or more.
type ErrorBody struct {
	Error Error `json:"error"`
}

// Error says what went wrong.
type Error struct {
	Code    Code     `json:"code" doc:"What kind of failure it is; decide by this."`
	Message string   `json:"message" doc:"What happened, for people."`
	Hint    string   `json:"hint,omitempty" doc:"What to try."`
	Missing *Missing `json:"missing,omitempty" doc:"With code missing_blobs: what is missing."`
}

// Missing lists blobs that an flist names and that the publisher has not put.
type Missing struct {
	Total int      `json:"total" doc:"How many there are."`
	Blobs []string `json:"blobs" doc:"Digests of the first of them, at most 1000."`
}
