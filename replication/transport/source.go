package transport

import (
	"context"
	"net"
	"net/netip"
)

// dialFrom dials from the host of addr, the address under which other members know this
// one: they take a new address only from a connection of that host. Where that is not
// possible, as behind a router, the system chooses the source.
func dialFrom(addr string) dialFunc {
	free := &net.Dialer{KeepAliveConfig: keepAlive}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().IsUnspecified() {
		return free.DialContext
	}
	bound := *free
	bound.LocalAddr = &net.TCPAddr{IP: ap.Addr().AsSlice(), Zone: ap.Addr().Zone()}
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		if c, err := bound.DialContext(ctx, network, to); err == nil {
			return c, nil
		}
		return free.DialContext(ctx, network, to)
	}
}
