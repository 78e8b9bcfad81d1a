// Package store says what a store of blobs is.
//
// A store holds immutable blobs by the SHA-256 of their bytes ([blob.Digest]). [Store] is
// the whole contract; consumers ask for the smallest part they need ([Getter], [Putter]).
// Abilities that only some stores have are further interfaces with a package function that
// uses them or falls back: [PutSummed], [Locate], [ReadChecked], [Close].
//
// [Index] makes any store a [Locator], from the tables at the ends of its blobs.
//
// The contract is tested by storetest, which every backend and every decorator runs.
// Implementations are safe for concurrent use. Bytes that a store returns are not trusted:
// whoever asked verifies them.
package store
