package image

// NewMemory is the built-in cache, for tests of caches that images share.
func NewMemory(limit int64) Cache { return newMemory(limit) }
