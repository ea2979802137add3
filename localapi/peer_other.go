//go:build !linux

package localapi

import (
	"errors"
	"net"
)

// peerUID is not known here: callers on the unix socket show the token instead.
func peerUID(*net.UnixConn) (uint32, error) {
	return 0, errors.ErrUnsupported
}
