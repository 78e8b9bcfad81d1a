package node

import (
	"context"

	"github.com/zosfs/zosfs/internal/keeper"
)

// Kept reports whether a keeper holds mounts of a service with the directories d, be that alive
// or not. If it is not, the next service goes on with them.
func Kept(ctx context.Context, d Dirs) bool {
	ctx, cancel := context.WithTimeout(ctx, keeperPatience)
	defer cancel()
	c, err := keeper.Dial(ctx, d.keeper())
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	items, err := c.Get(ctx)
	for _, i := range items {
		closeItem(i)
	}
	return err == nil && len(items) > 0
}
