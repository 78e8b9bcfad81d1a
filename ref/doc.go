// Package ref says what a user's reference to an flist means, and opens it.
//
// A reference is a path of a file, or names an flist of a hub by tag or digest; see [Parse].
// [Open] fetches the flist where need be and puts together what its content is read from: the
// hub that it came from first, then the sources written in it as far as policy lets them.
//
// Below [Options].Dir, which is the cache directory of a node, Open keeps
//
//	flists/<digest>.flist           what was fetched; checked against its digest at each use
//	refs/<hub>/<owner>/<name>/<tag> the digest that a tag had when the hub was asked last
//
// so that what was opened once opens without the hub too. Nothing of this is trusted: a
// damaged file is fetched again. The flists used least recently go when all of them take more
// than 2 GiB. Several processes may use one directory.
package ref
