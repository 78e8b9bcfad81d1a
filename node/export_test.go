package node

// RunKeeperFor is RunKeeper with another idle time.
var RunKeeperFor = runKeeper
