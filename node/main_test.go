package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
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
	case "locked":
		if err := locked(); err != nil {
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

// locked removes the program of the process, locks it in memory and prints how much is locked.
func locked() error {
	exe, err := os.Executable()
	if err == nil {
		err = os.Remove(exe)
	}
	if err == nil {
		err = node.LockProgram()
	}
	if err != nil {
		return err
	}
	p, err := os.ReadFile("/proc/self/status")
	fmt.Printf("%s", p)
	return err
}

// serveKernel is a service with a keeper, whose cache has the limit args[0]; then come what
// it is to be: "keep" leaves its mounts behind when SIGTERM ends it, "hasty" has little patience
// with its keeper, "mortal" dies when it has shown a mount. Or it is that keeper.
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
	o := node.Options{CacheLimit: limit, Keeper: []string{"keeper"}, KeepMounts: slices.Contains(args, "keep")}
	if slices.Contains(args, "hasty") {
		o = o.WithKeeperPatience(4 * time.Second)
	}
	if slices.Contains(args, "mortal") {
		o.Log = slog.New(mortal{slog.DiscardHandler})
	}
	return node.Run(ctx, o)
}

// mortal kills the process when it logs that it has mounted something, which it does before it
// saves that.
type mortal struct{ slog.Handler }

func (mortal) Enabled(context.Context, slog.Level) bool { return true }

func (m mortal) WithAttrs([]slog.Attr) slog.Handler { return m }

func (mortal) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "mounted" {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return nil
}
