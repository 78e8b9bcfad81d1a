package store

import (
	"context"

	"github.com/zosfs/zosfs/blob"
)

// A SummedPutter can leave out the hashing of [Putter] for who has just done it.
type SummedPutter interface {
	// PutSummed is Put for a caller that has computed id from these very bytes, in this
	// process. It need not verify that again; all else holds as for Put.
	PutSummed(ctx context.Context, id blob.Digest, data []byte) error
}

// PutSummed keeps data, from which the caller has computed id, as [SummedPutter] has it.
// Where p cannot, it is Put.
func PutSummed(ctx context.Context, p Putter, id blob.Digest, data []byte) error {
	if s, ok := p.(SummedPutter); ok {
		return s.PutSummed(ctx, id, data)
	}
	return p.Put(ctx, id, data)
}
