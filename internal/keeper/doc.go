// Package keeper holds file descriptors and small byte strings for a service that may be
// killed and started again, and does nothing else.
//
// [Run] is all that the keeper process does; a service reaches it with [Dial]. An item has a
// name, bytes and at most one descriptor. The keeper does not look into any of them, so it
// need not be replaced when the service is.
//
// # Invariants
//
// A change is made whole or not at all, and before it is answered. Nothing that was asked for
// by a client that is gone is done: once a service is dead, a change it had under way cannot
// undo what its successor has written. Descriptors are closed when their item is replaced or
// deleted and no answer under way needs them, and when the keeper ends. Only root and the
// user of the keeper may connect, and clients talk only to a keeper of root or of their own
// user. Whatever a client sends harms its own connection only.
//
// # Concurrency
//
// Any number of clients may be connected; [MaxConns] are served at once, others wait. One
// lock guards all state. It is not held while anything is sent, received or closed.
//
// # Protocol
//
// A connection to the unix socket (SOCK_STREAM) carries messages, each a header, a name and
// data without padding. Integers are little endian.
//
//	offset  size  header of 8 bytes
//	0       1     version, 1
//	1       1     kind
//	2       1     flags: bit 0 says that a descriptor comes with the message; others are 0
//	3       1     length of the name, in bytes
//	4       4     length of the data, in bytes, at most 1048576
//
// A descriptor is one SCM_RIGHTS control message with one descriptor, sent with the first
// byte of the header; none comes with later bytes or without the flag. The client asks, the
// keeper answers in order:
//
//	kind  request  name   data            descriptor  answers
//	1     ping     empty  empty           no          done
//	2     put      1-255  any             may be      done, or refused
//	3     get      empty  empty           no          items in the order of their names, then done
//	4     delete   empty  names (below)   no          done, or refused; a name without an item is no error
//
//	kind  answer   name            data            descriptor
//	128   done     empty           empty           no
//	129   item     1-255           any             may be
//	130   refused  word or empty   text (UTF-8)    no
//
// The data of delete is for each name one byte with its length, 1-255, and the name. Names
// are any bytes. There are at most 4096 items; one more is refused. The word of a refusal is
// its kind: "full" (a limit, or the keeper got no descriptor because too many are open),
// "denied" (the user of the client), "format" (a message that breaks these rules),
// "unsupported" (a version or kind that the keeper does not know); other words, and none, mean
// an error without a kind. The keeper ends the connection after "denied", "format" and data
// over the limit, otherwise it goes on. "denied" answers a request that was not read. A
// message must come, and an answer be taken, within [Patience].
//
// # Compatibility
//
// Header, lengths, bit 0 of the flags, and the kinds ping, done and refused mean the same in
// all versions. So a keeper can read any later request to its end, refuses it as
// "unsupported" in the highest version that it knows, and goes on; a newer service then asks
// again in that version. A keeper answers in the version of the request, and goes on to
// serve every version that was ever released, so an older service is served as it was.
package keeper
