package node_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/node"
)

// envChild makes the test binary another program: a service, or one that fails.
const envChild = "ZOSFS_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(envChild) {
	case "":
		os.Exit(m.Run())
	case "serve":
		idle, err := time.ParseDuration(os.Args[1])
		if err == nil {
			err = node.Run(context.Background(), node.Options{Idle: idle})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "serve-kernel":
		if err := serveKernel(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "load":
		if err := load(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "hello":
		fmt.Print(hello)
	case "panic":
		panic("the child has panicked")
	case "quiet":
		os.Exit(3)
	case "hang":
		select {}
	}
}

// serveKernel is a service with a keeper, whose cache has the limit args[0]; with args[1] it
// leaves its mounts behind when SIGTERM ends it. Or it is that keeper.
func serveKernel(args []string) error {
	if args[0] == "keeper" {
		return node.RunKeeperFor(context.Background(), node.DefaultDirs(), time.Second)
	}
	limit, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	return node.Run(ctx, node.Options{CacheLimit: limit, Keeper: []string{"keeper"}, KeepMounts: len(args) > 1})
}
