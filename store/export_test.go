package store

import "context"

// OpenSmallIndex is [OpenIndex] with room for so few chunks in memory that all the ways
// through files are taken.
func OpenSmallIndex(ctx context.Context, s Store, path string) (*Index, error) {
	return openIndex(ctx, s, path, tuning{pending: 4, run: 3})
}
