package fusefs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// ForgetResend makes c believe that its kernel is older than Linux 6.9.
func (c *Content) ForgetResend() {
	flags := c.conn.Init[initFlags2:]
	binary.NativeEndian.PutUint32(flags, binary.NativeEndian.Uint32(flags)&^uint32(fuse.CAP_HAS_RESEND>>32))
}
