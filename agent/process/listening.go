package process

import (
	"net"
	"path/filepath"
	"strings"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// WriteListening writes where this agent listens to its ListeningFile; admin is nil for
// an observer, and page is nil where there is no address of the web page alone.
func WriteListening(o options.Options, local, admin, page net.Addr) error {
	role := o.Role
	if role == "" {
		role = options.RoleMember
	}
	lines := []string{
		"# Where this agent listens, written at each start: the command line reads it.",
		"CONFIG_ROLE=" + role, "CONFIG_LOCAL_ADDR=" + Reachable(local),
	}
	if admin != nil {
		host, port, err := net.SplitHostPort(Reachable(admin))
		if err != nil {
			return conf.Errorf(conf.CodeInternal, "the address of the admin API: %w", err)
		}
		lines = append(lines, "CONFIG_MANAGER_HOST="+host, "CONFIG_MANAGER_PORT="+port)
	}
	if page != nil {
		lines = append(lines, "CONFIG_UI_ADDR="+Reachable(page))
	}
	if o.ManagerCert != "" {
		path, err := filepath.Abs(o.ManagerCert)
		if err != nil {
			return err
		}
		lines = append(lines, "CONFIG_MANAGER_TLS_CERT="+path)
	}
	return ReplaceLine(o.ListeningFile(), 0o600, strings.Join(lines, "\n"))
}
