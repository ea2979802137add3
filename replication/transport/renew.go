package transport

import (
	"context"
	"crypto/x509"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const (
	renewPath    = "/renew"
	maxRenewBody = 16 << 10
)

type renewRequest struct {
	CSR []byte `json:"csr"` // DER
}

type renewGrant struct {
	Certificate []byte   `json:"certificate"` // DER
	CAs         [][]byte `json:"cas"`         // DER
}

// serveRenew issues a new certificate with the name and role that the member has.
func (t *Transport) serveRenew(w http.ResponseWriter, r *http.Request) {
	grant, err := t.renewal(w, r)
	if err != nil {
		t.log.Warn("rejected a certificate renewal", "addr", r.RemoteAddr, "err", err)
		writeError(w, err)
		return
	}
	httperror.WriteJSON(w, http.StatusOK, grant)
}

func (t *Transport) renewal(w http.ResponseWriter, r *http.Request) (renewGrant, error) {
	body, err := readPost(w, r, renewPath, maxRenewBody)
	if err != nil {
		return renewGrant{}, err
	}
	var req renewRequest
	if err := conf.DecodeStrict(body, maxRenewBody, &req); err != nil {
		return renewGrant{}, err
	}
	p, ok := PeerFrom(r.Context())
	if !ok {
		return renewGrant{}, conf.Errorf(conf.CodeUnauthenticated, "only members can renew certificates")
	}
	if err := t.allowed(p); err != nil {
		return renewGrant{}, conf.Errorf(conf.CodeDenied, "node %s is not a member: %w", p.NodeID, err)
	}
	id := t.Identity()
	if id.CA == nil {
		return renewGrant{}, conf.Errorf(conf.CodeUnsupported, "node %s does not hold the key of the cluster's CA", id.NodeID).
			WithHint("use another server")
	}
	if err := t.admitNewKey(r.Context(), p, req.CSR); err != nil {
		return renewGrant{}, err
	}
	cert, err := id.CA.Issue(req.CSR, p.NodeID, p.Role, t.opts.CertTTL, t.opts.Now())
	if err != nil {
		return renewGrant{}, err
	}
	t.log.Info("renewed a certificate", "node", p.NodeID, "role", p.Role, "until", conf.FormatTime(cert.NotAfter))
	return renewGrant{Certificate: cert.Raw, CAs: rawCerts(id.CAs)}, nil
}

func rawCerts(certs []*x509.Certificate) [][]byte {
	out := make([][]byte, len(certs))
	for i, c := range certs {
		out[i] = c.Raw
	}
	return out
}

// admitNewKey makes the cluster accept the key of a CSR for p. A build of before keys were
// admitted makes a new one for each certificate.
func (t *Transport) admitNewKey(ctx context.Context, p pki.Peer, csr []byte) error {
	key, err := pki.KeyHash(csr)
	if err != nil || key == p.Key || t.opts.NewKey == nil {
		return err
	}
	p.Key = key
	return t.opts.NewKey(ctx, p)
}

// Renew returns a new certificate for the key that this agent has: from its own CA if it has the CA's key,
// else from the server with that node id. The caller saves the identity, and passes it to
// SetIdentity.
func (t *Transport) Renew(ctx context.Context, serverID string) (*pki.Identity, error) {
	id := t.Identity()
	if id.CA != nil {
		return id.Reissue(t.opts.CertTTL, t.opts.Now())
	}
	csr, err := pki.NewCSR(id.Key)
	if err != nil {
		return nil, err
	}
	r, err := newPost(ctx, renewPath, renewRequest{CSR: csr})
	if err != nil {
		return nil, err
	}
	resp, err := t.Client(serverID).Do(r)
	if err != nil {
		return nil, conf.Errorf(conf.CodeOf(err), "cannot renew the certificate at %s: %w", serverID, err).WithHint("%s", conf.HintOf(err))
	}
	defer resp.Body.Close()
	g, err := readReply[renewGrant](serverID, resp, func(err error) error {
		return conf.Errorf(conf.CodeInternal, "the answer of %s was lost: %w", serverID, err).WithHint("retry")
	})
	if err != nil {
		return nil, err
	}
	fresh, err := pki.NewIdentity(g.Certificate, id.Key, g.CAs)
	if err != nil {
		return nil, err
	}
	if fresh.ClusterID != id.ClusterID || fresh.NodeID != id.NodeID || fresh.Role != id.Role {
		return nil, conf.Errorf(conf.CodeDenied, "%s gave a certificate for another member", serverID)
	}
	// A new CA must be trusted before its certificates are accepted: otherwise any member
	// could answer with a CA of its own.
	if !id.Trusts(fresh.Issuer()) {
		return nil, conf.Errorf(conf.CodeDenied, "%s gave a certificate from a CA that this agent does not trust", serverID)
	}
	if err := checkValidity(fresh, t.opts.Now()); err != nil {
		return nil, err
	}
	return fresh, nil
}
