package keeper_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/keeper"
)

// envChild makes the test binary another program.
const envChild = "ZOSFS_TEST_CHILD"

func TestMain(m *testing.M) {
	children := map[string]func(path string) error{
		"keeper": serveAsChild, "starter": startAndHang, "half": putHalf, "loop": putForEver,
	}
	child, ok := children[os.Getenv(envChild)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := child(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child returns the command that runs this binary as another program.
func child(ctx context.Context, name, path string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], path)
	cmd.Env = append(os.Environ(), envChild+"="+name)
	return cmd
}

func serveAsChild(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	return keeper.Run(ctx, path, keeper.Options{
		Log:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready: func() { fmt.Println("ready") },
	})
}

// startAndHang starts a keeper in a session of its own, says its process id when it is
// ready, and waits to be killed.
func startAndHang(path string) error {
	cmd := child(context.Background(), "keeper", path)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	select {}
}

// putHalf sends half of a put with a descriptor, says so, and waits to be killed.
func putHalf(path string) error {
	conn, err := new(net.Dialer).DialContext(context.Background(), "unix", path)
	if err != nil {
		return err
	}
	p := request(2, 1, "item", make([]byte, keeper.MaxData))
	if _, _, err := conn.(*net.UnixConn).WriteMsgUnix(p[:len(p)/2], unix.UnixRights(0), nil); err != nil {
		return err
	}
	fmt.Println("half")
	select {}
}

// putForEver puts one item again and again, with a letter as all of its data and in its file,
// until it is killed.
func putForEver(path string) error {
	ctx := context.Background()
	c, err := keeper.Dial(ctx, path)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		letter := byte('a' + i%26)
		fd, err := memfd([]byte{letter})
		if err != nil {
			return err
		}
		item := keeper.Item{Name: "item", Data: bytes.Repeat([]byte{letter}, keeper.MaxData-i), FD: fd}
		if err := c.Put(ctx, item); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		if i > 0 {
			fmt.Println(i)
		}
	}
}

func memfd(content []byte) (int, error) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Pwrite(fd, content, 0)
	}
	return fd, err
}

// request returns the bytes of a request as the package comment has them.
func request(kind, flags byte, name string, data []byte) []byte {
	p := []byte{1, kind, flags, byte(len(name))}
	p = binary.LittleEndian.AppendUint32(p, uint32(len(data)))
	return append(append(p, name...), data...)
}
