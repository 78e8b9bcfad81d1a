package kernel

import (
	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// NewTree returns what WriteImage gives to package erofs.
func NewTree(r *flist.Reader, dev *image.Device) erofs.Tree { return newTree(r, dev) }
