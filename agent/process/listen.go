package process

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ListenSocket opens the unix socket of the local API; nil when it is off.
func ListenSocket(path string, log *slog.Logger) (net.Listener, error) {
	if path == "none" {
		return nil, nil //nolint:nilnil // none is not an error
	}
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	l, err := Listen("unix", path, "CONFIG_LOCAL_SOCKET")
	if err != nil {
		if len(path) < 100 {
			return nil, err
		}
		// sun_path holds 108 bytes: a deep directory must not stop the agent.
		log.Warn("the unix socket is off: its path is too long; set CONFIG_LOCAL_SOCKET", "path", path)
		return nil, nil //nolint:nilnil // see above
	}
	return l, os.Chmod(path, 0o666) //nolint:gosec // plain values need no proof; secrets ask for the peer's uid
}

// Listen opens a listener. Its error names setting, the variable to change.
func Listen(network, addr, setting string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // without the address, which the message names
		}
		return nil, conf.Errorf(conf.CodeUsage, "cannot listen on %s: %w", addr, err).WithHint("stop what uses it, or set %s", setting)
	}
	return l, nil
}

// removeStaleSocket removes the socket that a killed agent left. The lock on the
// data directory says that no other agent of this directory runs.
func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOCAL_SOCKET: %w", err).WithHint("%s", hintSocket)
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return conf.Errorf(conf.CodeUsage, "%s exists and is not a socket", path).WithHint("move it away, or set CONFIG_LOCAL_SOCKET")
	}
	if err := os.Remove(path); err != nil {
		return conf.Errorf(conf.CodeUsage, "the socket of an earlier run is in the way: %w", err).WithHint("%s", hintSocket)
	}
	return nil
}

const hintSocket = "make the disk and the directory writable for the user of the agent, or set CONFIG_LOCAL_SOCKET"

// Reachable writes a bound address so that a client on this host can use it.
func Reachable(addr net.Addr) string {
	t, ok := addr.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", t.Port)
}
