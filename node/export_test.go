package node

import "time"

// RunKeeperFor is RunKeeper with another idle time.
var RunKeeperFor = runKeeper

// LockProgram is what a service does at its start.
var LockProgram = lockProgram

// WithKeeperPatience returns o with another patience for answers of the keeper.
func (o Options) WithKeeperPatience(d time.Duration) Options {
	o.keeperPatience = d
	return o
}
