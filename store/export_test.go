package store

import "context"

// OpenSmallIndex is [OpenIndex] with room for so few chunks in memory that all the ways
// through files are taken.
func OpenSmallIndex(ctx context.Context, s Store, path string) (*Index, error) {
	return openIndex(ctx, s, path, tuning{pending: 4, run: 3})
}

// OpenIndexMerging is OpenSmallIndex with merge called before each merge of what is in memory into
// the file, which fails with it.
func OpenIndexMerging(ctx context.Context, s Store, path string, merge func() error) (*Index, error) {
	return openIndex(ctx, s, path, tuning{pending: 4, run: 3, merge: merge})
}
