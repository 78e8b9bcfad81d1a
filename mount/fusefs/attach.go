package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	devFuse    = "/dev/fuse"
	fusermount = "fusermount3"
	// maxRead is the largest READ, in bytes, and the read-ahead of the mount.
	maxRead = 1 << 20
)

// attach mounts at dir and returns the descriptor to serve, closed on exec. Root mounts by
// system call, others through fusermount3.
func attach(ctx context.Context, dir string, o Options) (int, error) {
	if os.Geteuid() == 0 {
		return attachDirect(dir, o)
	}
	return attachFusermount(ctx, dir, o)
}

func attachDirect(dir string, o Options) (int, error) {
	fd, err := unix.Open(devFuse, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", devFuse, err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,default_permissions,allow_other",
		fd, unix.S_IFDIR, os.Geteuid(), os.Getegid(), maxRead)
	if err := unix.Mount(o.Source, dir, "fuse."+Subtype, unix.MS_RDONLY, data); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mount fuse at %s: %w", dir, err)
	}
	return fd, nil
}

// attachFusermount lets the setuid program mount; it sends the descriptor over the socket
// that _FUSE_COMMFD names (fusermount3(1), util/fusermount.c of libfuse).
func attachFusermount(ctx context.Context, dir string, o Options) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	defer func() { _ = unix.Close(pair[0]) }()

	options := []string{"ro", "default_permissions", fmt.Sprintf("max_read=%d", maxRead),
		"fsname=" + escapeOption(o.Source), "subtype=" + Subtype}
	if userAllowOther() {
		options = append(options, "allow_other")
	}
	cmd := command(ctx, "-o", strings.Join(options, ","), "--", dir)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	_ = theirs.Close() // so that the read below ends where nothing was sent
	if err != nil {
		return -1, commandError(err, stderr.String())
	}
	fd, err := receiveFD(pair[0])
	if err != nil {
		return -1, errors.Join(fmt.Errorf("%s: %w", fusermount, err), detach(ctx, dir, true))
	}
	return fd, nil
}

// command returns fusermount3 with args, in a process group of its own: a second Ctrl-C ends
// this program at once, and must not end the unmounting that the first one began.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, fusermount, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func receiveFD(socket int) (int, error) {
	var data [4]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive descriptor: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, fmt.Errorf("receive descriptor: %w", err)
	}
	if len(messages) != 1 {
		return -1, errors.New("sent no descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, fmt.Errorf("receive descriptor: %w", err)
	}
	return fds[0], nil
}

// detach unmounts what is mounted at dir; with lazy it disappears at once and ends when the
// last user of it has gone.
func detach(ctx context.Context, dir string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		if err := unix.Unmount(dir, flags); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	cmd := command(ctx, append(args, "--", dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return commandError(err, stderr.String())
	}
	return nil
}

// commandError makes an error of what fusermount3 printed, which names the program and the
// directory; its texts are the only way to learn the errno.
func commandError(err error, text string) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return fmt.Errorf("%s: %w", fusermount, err)
	}
	for _, errno := range []unix.Errno{unix.EBUSY, unix.EPERM, unix.EACCES} {
		// The C library's texts begin with a capital, ours do not.
		if strings.Contains(strings.ToLower(text), errno.Error()) {
			return fmt.Errorf("%s: %w", text, errno)
		}
	}
	return errors.New(text)
}

// escapeOption guards what separates options in the argument of -o.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}

// userAllowOther reports whether the administrator lets users open their mounts to others.
func userAllowOther() bool {
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}
