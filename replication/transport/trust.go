package transport

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// trust is what handshakes use of an identity. It never changes.
type trust struct {
	id   *Identity
	pool *x509.CertPool
	cert *tls.Certificate // with the CAs, so that a joiner finds the one that its token names
}

func newTrust(id *Identity) (*trust, error) {
	if id.issuer == nil {
		return nil, conf.Errorf(conf.CodeInternal, "the identity was not made by this package")
	}
	tr := &trust{
		id: id, pool: x509.NewCertPool(),
		cert: &tls.Certificate{Certificate: [][]byte{id.Cert.Raw}, PrivateKey: id.Key, Leaf: id.Cert},
	}
	for _, ca := range first(id.CAs, id.issuer) {
		tr.cert.Certificate = append(tr.cert.Certificate, ca.Raw)
	}
	for _, ca := range id.CAs {
		tr.pool.AddCert(ca)
	}
	return tr, nil
}

// verify says whether the cluster's CA vouches for a certificate, for this use now.
func (tr *trust) verify(leaf *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: tr.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{leaf}, Err: err}
	}
	return nil
}

// verifyShown is verify for what a handshake shows: a leaf, and the CA that it is
// from. That one is taken, too, when a CA of this agent vouches for it.
func (tr *trust) verifyShown(shown []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	err := tr.verify(shown[0], usage, now)
	if err == nil || len(shown) < 2 || !Endorsed(shown[1], tr.id.CAs) {
		return err
	}
	next := &trust{id: tr.id, pool: x509.NewCertPool()}
	next.pool.AddCert(shown[1])
	return next.verify(shown[0], usage, now)
}

// peer is the member of this cluster that a verified certificate names.
func (tr *trust) peer(leaf *x509.Certificate) (Peer, error) {
	cluster, p, err := nodeOf(leaf)
	if err != nil {
		return Peer{}, &refusal{ReasonName, err}
	}
	if cluster != tr.id.ClusterID {
		return Peer{}, &refusal{ReasonName, conf.Errorf(conf.CodeDenied, "a member of cluster %s, and this is cluster %s", cluster, tr.id.ClusterID)}
	}
	return p, nil
}

// baseConfig is common to both sides. Sessions are never resumed, for a resumed
// one would carry on with what an old certificate said.
func baseConfig(now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // for throughput: nobody waits for the first bytes of a record
		Time:                        now,
	}
}
