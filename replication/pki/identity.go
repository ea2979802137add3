package pki

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Identity is this agent in the cluster: its certificate and key, and the CAs that it
// trusts. It is immutable; a renewal makes another one.
type Identity struct {
	ClusterID string
	NodeID    string
	Role      Role
	Cert      *x509.Certificate
	Key       crypto.Signer
	CAs       []*x509.Certificate // more than one during a replacement of the CA
	CA        *CA                 // with its key; servers only, nil where unknown

	issuer *x509.Certificate // the one of CAs that signed Cert
}

// Bootstrap makes a new cluster: its CA, and the identity of its first server.
func Bootstrap(clusterID, nodeID string, ttl time.Duration, now time.Time) (*Identity, error) {
	ca, err := NewCA(clusterID, now)
	if err != nil {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return issueTo(ca, key, nodeID, RoleServer, ttl, now, []*x509.Certificate{ca.cert})
}

func issueTo(ca *CA, key crypto.Signer, nodeID string, role Role, ttl time.Duration, now time.Time, cas []*x509.Certificate) (*Identity, error) {
	csr, err := NewCSR(key)
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(csr, nodeID, role, ttl, now)
	if err != nil {
		return nil, err
	}
	return newIdentity(cert, key, cas, ca)
}

// NewIdentity makes an identity of DER forms, as a join or a renewal returns them.
func NewIdentity(cert []byte, key crypto.Signer, cas [][]byte) (*Identity, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "malformed certificate: %w", err)
	}
	pool := make([]*x509.Certificate, len(cas))
	for i, der := range cas {
		if pool[i], err = x509.ParseCertificate(der); err != nil {
			return nil, conf.Errorf(conf.CodeCorrupt, "malformed CA certificate: %w", err)
		}
	}
	return newIdentity(c, key, pool, nil)
}

// newIdentity checks that the parts are consistent. It does not check the time: a
// server can renew an expired identity itself.
func newIdentity(cert *x509.Certificate, key crypto.Signer, cas []*x509.Certificate, ca *CA) (*Identity, error) {
	cluster, peer, err := NodeOf(cert)
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the certificate of this agent names no member: %w", err)
	}
	if !samePublic(cert.PublicKey, key.Public()) {
		return nil, conf.Errorf(conf.CodeCorrupt, "the key of this agent is not that of its certificate")
	}
	id := &Identity{ClusterID: cluster, NodeID: peer.NodeID, Role: peer.Role, Cert: cert, Key: key, CAs: cas}
	for _, c := range cas {
		of, err := checkCA(c)
		if err != nil {
			return nil, err
		}
		if of != cluster {
			return nil, conf.Errorf(conf.CodeCorrupt, "the certificate of this agent is of cluster %s, the CA of %s", cluster, of)
		}
		if cert.CheckSignatureFrom(c) == nil {
			id.issuer = c
		}
	}
	if id.issuer == nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the certificate of this agent is not from the CA of its cluster")
	}
	if ca != nil {
		return id.WithCA(ca)
	}
	return id, nil
}

// WithCA returns id with the key of the CA, for a server that issues certificates.
func (id *Identity) WithCA(ca *CA) (*Identity, error) {
	if id.Role != RoleServer {
		return nil, conf.Errorf(conf.CodeInvalid, "a %s holds no CA key", id.Role)
	}
	if ca == nil || !id.Trusts(ca.cert) {
		return nil, conf.Errorf(conf.CodeCorrupt, "the CA key is of another cluster than the certificate of this agent")
	}
	c := *id
	c.CA = ca
	return &c, nil
}

// Trusts reports whether ca is one of the CAs of id.
func (id *Identity) Trusts(ca *x509.Certificate) bool {
	for _, c := range id.CAs {
		if c.Equal(ca) {
			return true
		}
	}
	return false
}

// Chain returns the certificate and the CAs, the issuer first, in DER form. A TLS
// handshake sends it, so that a joiner finds the CA that its token names.
func (id *Identity) Chain() [][]byte {
	chain := [][]byte{id.Cert.Raw}
	for _, ca := range caFirst(id.CAs, id.issuer) {
		chain = append(chain, ca.Raw)
	}
	return chain
}

// caFirst returns the same CAs with ca in front.
func caFirst(cas []*x509.Certificate, ca *x509.Certificate) []*x509.Certificate {
	out := []*x509.Certificate{ca}
	for _, c := range cas {
		if !c.Equal(ca) {
			out = append(out, c)
		}
	}
	return out
}

// Peer returns this agent as other members see it.
func (id *Identity) Peer() Peer {
	return Peer{NodeID: id.NodeID, Role: id.Role, Serial: id.Cert.SerialNumber.Text(16), NotAfter: id.Cert.NotAfter, Key: certKey(id.Cert)}
}

// Match returns an error if the identity is not of the given cluster and node; an
// empty string matches all.
func (id *Identity) Match(clusterID, nodeID string) error {
	if clusterID != "" && id.ClusterID != clusterID {
		return conf.Errorf(conf.CodeCorrupt, "the certificate of this agent is of cluster %s, its data of %s", id.ClusterID, clusterID).
			WithHint("%s", hintRejoin)
	}
	if nodeID != "" && id.NodeID != nodeID {
		return conf.Errorf(conf.CodeCorrupt, "the certificate of this agent is for node %s, and the agent is %s", id.NodeID, nodeID).
			WithHint("set CONFIG_NODE_ID to %s, or join the cluster again under the other id", id.NodeID)
	}
	return nil
}

// Reissue renews the certificate of an agent that has the CA key. It needs no other
// agent, and works with an expired certificate. The key stays: the cluster has admitted it.
func (id *Identity) Reissue(ttl time.Duration, now time.Time) (*Identity, error) {
	if id.CA == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent does not hold the key of the cluster's CA").
			WithHint("renew the certificate at a server")
	}
	return issueTo(id.CA, id.Key, id.NodeID, id.Role, ttl, now, id.CAs)
}

// WithCAs returns id with other trusted CAs. They must include the one that signed its
// certificate, and the one whose key it has.
func (id *Identity) WithCAs(cas []*x509.Certificate) (*Identity, error) {
	return newIdentity(id.Cert, id.Key, cas, id.CA)
}

const hintRejoin = "set the directory tls aside and join the cluster again, with a token from: holdfast token create"
