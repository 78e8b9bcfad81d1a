package all

import "net"

// SetResolver has p look names up with r.
func (p *Policy) SetResolver(r *net.Resolver) { p.dial.resolver = r }
