package node_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

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
	case "panic":
		panic("the child has panicked")
	case "quiet":
		os.Exit(3)
	case "hang":
		select {}
	}
}
