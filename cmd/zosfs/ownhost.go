package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/zosfs/zosfs/mount"
)

// ownHost is the host of one mount that this process serves.
type ownHost struct {
	images string // directory of metadata images
	log    *slog.Logger
	host   *mount.Host
	dir    string
}

func (h *ownHost) get() (_ *mount.Host, err error) {
	if h.dir, err = os.MkdirTemp("", "zosfs-content-"); err != nil {
		return nil, err
	}
	h.host, err = mount.NewHost(mount.HostOptions{Content: h.dir, Images: h.images, Log: h.log})
	return h.host, err
}

// Close implements io.Closer.
func (h *ownHost) Close() error {
	var err error
	if h.host != nil {
		err = h.host.Close(context.Background())
	}
	if h.dir != "" {
		err = errors.Join(err, os.Remove(h.dir))
	}
	return err
}
