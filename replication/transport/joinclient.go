package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// JoinOptions are what an agent joins with. Addr, Token, Key, NodeID and Advertise
// are required.
type JoinOptions struct {
	Addr      string // cluster port of a server
	Token     string
	Key       crypto.Signer // see NodeKey
	NodeID    string
	Version   string
	Advertise string
	Epoch     string // of the data that this agent holds, "" when none

	Timeout time.Duration // default 30 s
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Now     func() time.Time
}

// Grant is a verified JoinGrant and its identity.
type Grant struct {
	JoinGrant
	Identity *pki.Identity
}

// Join joins the cluster at the server at o.Addr. It sends nothing, not even the token,
// unless the certificate there is that of a server, from the CA whose hash the token
// contains.
//
// After any error the join may be retried, there or at another server; with the same Key
// it counts as one use of the token.
func Join(ctx context.Context, o JoinOptions) (*Grant, error) {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	token, err := ParseToken(o.Token)
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(o.Key)
	if err != nil {
		return nil, err
	}
	req := JoinRequest{
		TokenID: token.ID, Secret: token.Secret, CSR: csr, NodeID: o.NodeID, Version: o.Version, Advertise: o.Advertise, Epoch: o.Epoch,
	}
	if err := req.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var pinned pin
	cfg := baseConfig(o.Now)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		var err error
		pinned, err = pinCA(cs.PeerCertificates, token.CAHash, o, o.Now())
		return err
	}
	raw, tc, err := clientHandshake(ctx, o.Dial, ProtoJoin, o.Addr, cfg, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	grant, err := post[JoinGrant](tc, o.Addr, joinPath, req)
	if err != nil {
		return nil, err
	}
	return checkGrant(grant, pinned, o)
}

// pin is the CA that the token names, as the server sent it.
type pin struct {
	ca      *x509.Certificate
	cluster string
}

// pinCA finds the CA with that hash in the chain of a server, and verifies the chain with
// it.
func pinCA(chain []*x509.Certificate, hash string, o JoinOptions, now time.Time) (pin, error) {
	for i, ca := range chain {
		if i == 0 || subtle.ConstantTimeCompare([]byte(pki.HashCA(ca)), []byte(hash)) != 1 {
			continue
		}
		cluster := pki.ClusterOf(ca)
		if cluster == "" {
			return pin{}, &rejection{ReasonUntrusted, rejectedToken()}
		}
		tr := &trust{id: &pki.Identity{ClusterID: cluster, CAs: []*x509.Certificate{ca}}, pool: x509.NewCertPool()}
		tr.pool.AddCert(pki.Unbegun(ca))
		if err := tr.verifyShown(chain, x509.ExtKeyUsageServerAuth, now); err != nil {
			return pin{}, err
		}
		p, err := tr.peer(chain[0])
		switch {
		case err != nil:
			return pin{}, err
		case p.Role != pki.RoleServer:
			return pin{}, &rejection{ReasonRole, conf.Errorf(conf.CodeDenied, "the agent at %s is a %s, at which no agent can join", o.Addr, p.Role).
				WithHint("give the address of a server: holdfast cluster members")}
		case p.NodeID == o.NodeID:
			return pin{}, &rejection{ReasonDuplicate, conf.Errorf(conf.CodeConflict, "the agent at %s has the node id %s itself", o.Addr, o.NodeID).
				WithHint("an agent cannot join itself: give the address of another one; if it is another one, set another CONFIG_NODE_ID")}
		}
		return pin{ca, cluster}, nil
	}
	return pin{}, &rejection{ReasonUntrusted, rejectedToken()}
}

// post sends a value over a new connection and reads the response.
func post[T any](c net.Conn, addr, path string, v any) (answer T, err error) {
	lost := func(err error) error {
		return conf.Errorf(conf.CodeOutcomeUnknown, "the response of the agent at %s was lost: %w", addr, err).
			WithHint("retry: the same agent counts once")
	}
	r, err := newPost(context.Background(), path, v)
	if err != nil {
		return answer, err
	}
	r.Close = true
	if err := r.Write(c); err != nil {
		return answer, lost(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxJoinReply+maxHeader)), r)
	if err != nil {
		return answer, lost(err)
	}
	defer resp.Body.Close()
	return readReply[T](addr, resp, lost)
}

// newPost makes a request with a JSON body.
func newPost(ctx context.Context, path string, v any) (*http.Request, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "writing the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://holdfast"+path, bytes.NewReader(body))
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "writing the request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

func readReply[T any](addr string, resp *http.Response, lost func(error) error) (answer T, err error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJoinReply+1))
	if err != nil {
		return answer, lost(err)
	}
	if len(data) > maxJoinReply {
		return answer, conf.Errorf(conf.CodeTooLarge, "the response of the agent at %s is over %d bytes", addr, maxJoinReply)
	}
	if resp.StatusCode != http.StatusOK {
		return answer, readError(addr, resp.StatusCode, data)
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, conf.Errorf(conf.CodeMalformed, "malformed response of the agent at %s: %w", addr, err)
	}
	return answer, nil
}

// checkGrant accepts only what the pinned CA has issued.
func checkGrant(g JoinGrant, p pin, o JoinOptions) (*Grant, error) {
	id, err := pki.NewIdentity(g.Certificate, o.Key, g.CAs)
	if err != nil {
		return nil, err
	}
	switch {
	case id.NodeID != o.NodeID || id.ClusterID != p.cluster || g.ClusterID != p.cluster:
		return nil, conf.Errorf(conf.CodeDenied, "the agent at %s gave a certificate for node %s of cluster %s, which was not asked for",
			o.Addr, id.NodeID, id.ClusterID)
	case !id.Trusts(p.ca):
		return nil, conf.Errorf(conf.CodeDenied, "the CA that the token names is not among those that the agent at %s gave", o.Addr)
	}
	if err := checkValidity(id, o.Now()); err != nil {
		return nil, err
	}
	if len(g.CAKey) > 0 {
		if id, err = id.WithCAKey(g.CAKey); err != nil {
			return nil, err
		}
	}
	return &Grant{JoinGrant: g, Identity: id}, nil
}

// checkValidity finds clocks that differ before an agent depends on the certificate. One
// that begins later is used, and renewed soon.
func checkValidity(id *pki.Identity, now time.Time) error {
	if id.Expired(now) {
		return conf.Errorf(conf.CodeInvalid, "the issued certificate is valid from %s to %s, and the clock of this machine says %s",
			conf.FormatTime(id.Cert.NotBefore), conf.FormatTime(id.Cert.NotAfter), conf.FormatTime(now)).
			WithHint("synchronize the clocks of the two machines")
	}
	return nil
}
