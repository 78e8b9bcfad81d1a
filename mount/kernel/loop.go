package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// loopTries bounds how often a free loop device is looked for: others may be faster.
const loopTries = 64

// attachLoop puts a read-only loop device over the file path. It goes away by itself when
// neither the caller nor a file system holds it any more.
func attachLoop(path string) (*os.File, error) {
	back, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = back.Close() }() // the device holds it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer func() { _ = control.Close() }()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		config := unix.LoopConfig{
			Fd:   uint32(back.Fd()),
			Size: 4096,
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR},
		}
		copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			setReadAhead(fmt.Sprintf("/sys/block/loop%d/queue", n))
			return dev, nil
		}
		if err = errors.Join(err, dev.Close()); !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("loop device over %s: %w", path, err)
		}
	}
	return nil, fmt.Errorf("loop device over %s: %w", path, unix.EBUSY)
}
