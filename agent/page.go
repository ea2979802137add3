package agent

import (
	"log/slog"
	"net"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// page is what an agent has for its web page besides the admin port.
type page struct {
	addr     string // "" when it is off
	log      *slog.Logger
	scheme   string
	links    *session.Links
	listener net.Listener // nil when it is off, or when its address is taken
}

func newPage(o *options.Options, role pki.Role, log *slog.Logger) *page {
	return &page{addr: o.UIAddrOf(role == pki.RoleSidecar), scheme: o.AdminScheme(), log: log, links: session.NewLinks(time.Now)}
}

// listen opens the address of the page and returns its URL, that of the admin port where it
// is off. An address that is taken is no reason not to run: others like the port, too.
func (p *page) listen(adminURL string) string {
	if p.addr == "" {
		return adminURL
	}
	l, err := process.ListenHost(p.addr, "CONFIG_UI_ADDR", p.log)
	if err != nil {
		p.log.Warn("the web page is at the admin port only: its own address is taken; set CONFIG_UI_ADDR", "addr", p.addr, "admin", adminURL, "err", err)
		return adminURL
	}
	p.listener = l
	return p.scheme + process.Reachable(l.Addr())
}

func (p *page) close() {
	if p != nil && p.listener != nil {
		_ = p.listener.Close()
	}
}

// SignInURL is an address of the web page that logs a browser in by a token: once, for
// session.LinkLife. The token is not in it.
func (a *Agent) SignInURL(token string) string {
	return a.info.PageURL + "/#link=" + a.page.links.Make(token)
}
