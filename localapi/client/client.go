package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Options are the addresses of an agent and the tokens of the caller. Addresses may
// be host:port; for all interfaces (0.0.0.0) the client uses loopback.
type Options struct {
	AdminURL   string // CONFIG_MANAGER_HOST:CONFIG_MANAGER_PORT
	LocalURL   string // CONFIG_LOCAL_ADDR; may be empty with UnixSocket
	UnixSocket string // of the local API, in place of TCP
	Token      string // CONFIG_API_TOKEN, for the admin API
	LocalToken string // content of the agent's token file, to see secrets

	AdminTLS   *tls.Config  // of https:// URLs; default: the CAs of the system
	HTTPClient *http.Client // default: one without proxies, of its own
	UserAgent  string       // default: holdfast-client
	// Timeout bounds a call whose context has no deadline. Default: 40 s, which is
	// longer than the timeouts of the agent.
	Timeout time.Duration
}

// Client talks to one agent. Its methods are those of its parts, one for each subject of
// the APIs: a function that needs only one of them takes that part.
type Client struct {
	*caller

	Documents
	SchemaStore
	ProfileStore
	Membership
	Access
	Keyring
	RolloutDesk
	BackupTarget
	Local
}

// The parts of a Client.
type (
	Documents    struct{ *caller } // of services: stored values, secrets, history, search
	SchemaStore  struct{ *caller }
	ProfileStore struct{ *caller }
	Membership   struct{ *caller } // the cluster, its members and its join tokens
	Access       struct{ *caller } // API tokens and the access log
	Keyring      struct{ *caller } // the keys of the cluster and their rotation
	RolloutDesk  struct{ *caller } // changes that go out in steps
	BackupTarget struct{ *caller }
	Local        struct{ *caller } // the API for the service beside the agent
)

// caller sends requests to both APIs.
type caller struct {
	o     Options
	admin endpoint
	local endpoint

	consistent bool
}

func newClient(c *caller) *Client {
	return &Client{
		caller: c, Documents: Documents{c}, SchemaStore: SchemaStore{c}, ProfileStore: ProfileStore{c}, Membership: Membership{c},
		Access: Access{c}, Keyring: Keyring{c}, RolloutDesk: RolloutDesk{c}, BackupTarget: BackupTarget{c}, Local: Local{c},
	}
}

// Consistent is a client whose reads of the admin API are linearizable: they see
// all writes acknowledged before them, and need a leader. Its changes, and its reads
// of the local API, are those of c.
func (c *Client) Consistent() *Client {
	out := *c.caller
	out.consistent = true
	return newClient(&out)
}

// AdminURL is where the admin API is.
func (c *caller) AdminURL() string { return c.o.AdminURL }

// endpoint is one of the two APIs.
type endpoint struct {
	base   *url.URL // nil without an address
	http   *http.Client
	header string // that carries the token
	token  string
	hint   string // how to configure it
}

// New makes a client. Nothing is sent before the first call; an API whose
// address is left out answers with conf.CodeUsage.
func New(o Options) (*Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = "holdfast-client"
	}
	if o.Timeout <= 0 {
		o.Timeout = 40 * time.Second
	}
	c := &caller{
		o: o,
		admin: endpoint{
			header: "X-API-Token", token: o.Token,
			hint: "start the agent, or point to it with CONFIG_MANAGER_HOST and CONFIG_MANAGER_PORT",
		},
		local: endpoint{
			header: "X-Holdfast-Token", token: o.LocalToken,
			hint: "start the agent, or point to it with CONFIG_LOCAL_ADDR",
		},
	}
	var err error
	if c.admin.base, err = parse(o.AdminURL); err != nil {
		return nil, err
	}
	if o.UnixSocket != "" && o.LocalURL == "" {
		o.LocalURL = "http://localhost"
	}
	if c.local.base, err = parse(o.LocalURL); err != nil {
		return nil, err
	}
	c.admin.http = httpClient(o.HTTPClient, "", o.AdminTLS)
	c.local.http = httpClient(o.HTTPClient, o.UnixSocket, nil)
	return newClient(c), nil
}

// Close closes idle connections.
func (c *caller) Close() {
	c.admin.http.CloseIdleConnections()
	c.local.http.CloseIdleConnections()
}

// httpClient never follows a redirect, which would get the token, and uses no proxy:
// the agent is on the same host.
func httpClient(given *http.Client, socket string, config *tls.Config) *http.Client {
	out := &http.Client{}
	if given != nil {
		*out = *given
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if given == nil || socket != "" {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		t := &http.Transport{
			DialContext:         dialer.DialContext,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     time.Minute,
			TLSHandshakeTimeout: 5 * time.Second,
			TLSClientConfig:     config,
		}
		if socket != "" {
			t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			}
		}
		out.Transport = t
	}
	return out
}

func parse(address string) (*url.URL, error) {
	if address == "" {
		return nil, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Without the address itself, which may contain a password.
		return nil, conf.Errorf(conf.CodeUsage, "bad address of an agent").
			WithHint("write it as host:port, or as http://host:port")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); (err == nil && addr.IsUnspecified()) || u.Hostname() == "" {
		host := "127.0.0.1"
		if err == nil && addr.Is6() {
			host = "[::1]"
		}
		if u.Port() != "" {
			host += ":" + u.Port()
		}
		u.Host = host
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}
