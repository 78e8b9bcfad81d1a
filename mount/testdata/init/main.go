// Init is the only program of the container in TestContainer. Outside it is told the new root:
// it enters that and runs itself there.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func main() {
	run := map[string]func() error{"enter": enter, "main": contained, "child": child}[os.Args[1]]
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// enter makes os.Args[2] the root, the way container runtimes do, and leaves no other root.
func enter() error {
	root := os.Args[2]
	return errors.Join(
		syscall.Mount(root, root, "", syscall.MS_BIND|syscall.MS_REC, ""),
		os.Chdir(root),
		syscall.PivotRoot(".", "."),
		syscall.Unmount(".", syscall.MNT_DETACH),
		os.Chdir("/"),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		syscall.Exec("/bin/init", []string{"init", "main"}, []string{"IN=container"}),
	)
}

// contained reads and writes as a program of the image.
func contained() error {
	message, err := os.ReadFile("/etc/message")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fmt.Printf("pid %d reads %q among %s\n", os.Getpid(), message, strings.Join(names, " "))
	f, err := os.OpenFile("/etc/message", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(", and more")
	if err := errors.Join(err, f.Close(), os.Mkdir("/var", 0o755), os.WriteFile("/var/new", []byte("new"), 0o600), os.Remove("/etc/remove")); err != nil {
		return err
	}
	out, err := exec.Command("/bin/init", "child").CombinedOutput()
	fmt.Printf("%s", out)
	return err
}

func child() error {
	message, err := os.ReadFile("/etc/message")
	if err != nil {
		return err
	}
	_, err = os.Stat("/etc/remove")
	fmt.Printf("child reads %q, removed: %v, IN=%s\n", message, os.IsNotExist(err), os.Getenv("IN"))
	return nil
}
