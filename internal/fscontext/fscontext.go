// Package fscontext explains errors of file systems in the making, as fsopen(2) begins them.
package fscontext

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLines bounds how much of what the kernel says is read.
const maxLines = 8

// Explain adds to err what the kernel has noted in the file system context fs, a descriptor
// from fsopen, and takes that out of it. It returns err itself where nothing was noted.
func Explain(fs int, err error) error {
	var said []string
	buf := make([]byte, 4096)
	for range maxLines {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(said, "; "), err)
}
