package diff

import (
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// Usage is what the content of one image takes, alone and beside others. Sizes are bytes.
type Usage struct {
	Logical int64 `json:"logical"` // of all regular files, with holes and equal content
	Plain   int64 `json:"plain"`   // of its chunks, each once
	Stored  int64 `json:"stored"`  // of its chunks as they are stored, each once
	// Unique is the part of Stored in chunks that none of the others has: what its removal
	// would free, if nobody else has them.
	Unique int64 `json:"unique"`
}

// Total is what several images take together, chunks that they share once.
type Total struct {
	Plain  int64 `json:"plain"`
	Stored int64 `json:"stored"`
}

// Du returns what each of the images takes and what all do, by their flists alone. It takes
// some 60 bytes of memory for each chunk. A chunk that is stored in several places counts as
// it is stored in the first image that has it.
func Du(images ...*flist.Reader) ([]Usage, Total) {
	type held struct {
		stored uint32
		by     int32 // image that alone has it, or -1
	}
	all := make(map[chunk.Digest]held)
	out := make([]Usage, len(images))
	var total Total
	for i, r := range images {
		n := r.Counts()
		out[i] = Usage{Logical: n.Size, Plain: n.Unique, Stored: n.Stored}
		for _, c := range r.Chunks() {
			h, met := all[c.Chunk]
			switch {
			case !met:
				all[c.Chunk] = held{c.Stored, int32(i)}
				total.Plain += int64(c.Size)
				total.Stored += int64(c.Stored)
			case h.by != int32(i):
				all[c.Chunk] = held{h.stored, -1}
			}
		}
	}
	for _, h := range all {
		if h.by >= 0 {
			out[h.by].Unique += int64(h.stored)
		}
	}
	return out, total
}
