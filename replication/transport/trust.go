package transport

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// trust is what handshakes use of an identity. It is immutable.
type trust struct {
	id   *pki.Identity
	pool *x509.CertPool
	cert *tls.Certificate
}

func newTrust(id *pki.Identity) (*trust, error) {
	if id.Issuer() == nil {
		return nil, conf.Errorf(conf.CodeInternal, "the identity was not made by this package")
	}
	tr := &trust{
		id: id, pool: x509.NewCertPool(),
		cert: &tls.Certificate{Certificate: id.Chain(), PrivateKey: id.Key, Leaf: id.Cert},
	}
	for _, ca := range id.CAs {
		tr.pool.AddCert(pki.Unbegun(ca))
	}
	return tr, nil
}

// verify verifies a certificate against the trusted CAs, for this use at this time. One
// that begins later is valid: see pki.Unbegun.
func (tr *trust) verify(leaf *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	_, err := pki.Unbegun(leaf).Verify(x509.VerifyOptions{Roots: tr.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		if end := tr.ended(leaf, now); end != nil && reasonOf(&tls.CertificateVerificationError{Err: err}) == ReasonExpired {
			return &rejection{ReasonExpired, end}
		}
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{leaf}, Err: err}
	}
	return nil
}

// verifyShown is verify for the chain of a handshake: a leaf and its CA. It also accepts a
// CA that a trusted one endorses.
func (tr *trust) verifyShown(shown []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	err := tr.verify(shown[0], usage, now)
	if err == nil || len(shown) < 2 || !pki.Endorsed(shown[1], tr.id.CAs) {
		return err
	}
	next := &trust{id: tr.id, pool: x509.NewCertPool()}
	next.pool.AddCert(pki.Unbegun(shown[1]))
	return next.verify(shown[0], usage, now)
}

// ended says which certificate of the chain of leaf is over, nil for none.
func (tr *trust) ended(leaf *x509.Certificate, now time.Time) error {
	if err := pki.CheckEnd(leaf, now); err != nil {
		return err
	}
	for _, ca := range tr.id.CAs {
		if leaf.CheckSignatureFrom(ca) == nil {
			return pki.CheckEnd(ca, now)
		}
	}
	return nil
}

// peer returns the member of this cluster that a verified certificate names.
func (tr *trust) peer(leaf *x509.Certificate) (pki.Peer, error) {
	cluster, p, err := pki.NodeOf(leaf)
	if err != nil {
		return pki.Peer{}, &rejection{ReasonName, err}
	}
	if cluster != tr.id.ClusterID {
		return pki.Peer{}, &rejection{ReasonName, conf.Errorf(conf.CodeDenied, "a member of cluster %s, and this is cluster %s", cluster, tr.id.ClusterID)}
	}
	return p, nil
}

// baseConfig is common to both sides. TLS sessions are never resumed: a resumed one would
// use the result of an old certificate.
func baseConfig(now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // for throughput: the first bytes of a record are not needed early
		Time:                        now,
	}
}
