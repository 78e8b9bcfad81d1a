package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/zosfs/zosfs/internal/keeper"
)

// keeperIdle is how long a keeper waits for its first item; after its last it ends at once.
const keeperIdle = 10 * time.Second

// RunKeeper is the keeper of the services with the directories d: it holds the descriptor of
// their FUSE connection and the table of their mounts, and nothing else, until ctx ends or a
// service has taken all back. A service starts it ([Options].Keeper).
func RunKeeper(ctx context.Context, d Dirs) error { return runKeeper(ctx, d, keeperIdle) }

func runKeeper(ctx context.Context, d Dirs, idle time.Duration) (err error) {
	starter := takeStarter()
	defer func() { starter.failed(err) }()
	if d, err = d.abs(); err != nil {
		return err
	}
	// It must not be the one that goes when memory runs out; not every container lets us.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	if err := keeper.Run(ctx, d.keeper(), keeper.Options{Idle: idle, After: time.Millisecond, Ready: starter.ready}); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	return nil
}
