package pack

import "github.com/zosfs/zosfs/chunk"

// The fragmentation guard (see the package comment) looks at files of more than guardMin
// bytes and copies the chunks of a part that has at least guardRuns runs with a mean of less
// than guardMean bytes of plaintext. The mean is the one at which Xet stores again
// (reference: its paper on fragmentation); two or three ranges cost a reader little, and
// would make one change in the middle of a part a reason to store it all.
const (
	guardMin  = 512 << 10
	guardMean = 512 << 10
	guardRuns = 4
)

// A spot is where a chunk lies.
type spot struct {
	blob        *blobRef
	off, stored uint32
	codec       uint8
}

// follows reports whether a reader that has read prev goes on at s without a new range, or
// begins a blob, as an ordinary file does that did not fit into the last one.
func (s spot) follows(prev spot) bool {
	return s.off == firstOffset || s.blob == prev.blob && s.off == prev.off+prev.stored
}

// firstOffset is where the first chunk of any blob lies.
const firstOffset = 8

// scattered reports whether the pieces of a part, which lie at the spots, are to be copied.
// What repeats in the part counts once, for it is read once.
func scattered(pieces []piece, at []spot) bool {
	seen := make(map[chunk.Digest]struct{}, len(pieces))
	runs, bytes, prev := 0, 0, -1
	for i := range pieces {
		if _, ok := seen[pieces[i].digest]; ok {
			continue
		}
		seen[pieces[i].digest] = struct{}{}
		bytes += int(pieces[i].size)
		if prev < 0 || !at[i].follows(at[prev]) {
			runs++
		}
		prev = i
	}
	return runs >= guardRuns && bytes/runs < guardMean
}

// windows calls fn for the parts in which a stream would have read pieces, until fn is
// false.
func windows(pieces []piece, fn func(lo, hi int) bool) {
	lo, bytes := 0, 0
	for i := range pieces {
		if bytes += int(pieces[i].size); bytes >= partSize || i == len(pieces)-1 {
			if !fn(lo, i+1) {
				return
			}
			lo, bytes = i+1, 0
		}
	}
}

// pieceSet finds pieces of one part by their digests: the index of the first of each.
type pieceSet map[chunk.Digest]int
