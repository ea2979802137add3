package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/url"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	// DefaultTTL is the lifetime of a member's certificate. It is renewed after two
	// thirds of it.
	DefaultTTL = 90 * 24 * time.Hour

	caYears = 10
	maxCSR  = 4096 // bytes; that of an ECDSA key has about 250
)

// clockFloor is older than any cluster: an earlier clock was never set, and a CA made
// by it would have expired when the clock is right.
var clockFloor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// CA is the certificate authority of a cluster with its key.
type CA struct {
	cert    *x509.Certificate
	key     crypto.Signer
	cluster string
}

// NewCA makes the CA of a new cluster.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	if err := CheckClusterID(clusterID); err != nil {
		return nil, err
	}
	if now.Before(clockFloor) {
		return nil, conf.Errorf(conf.CodeInvalid, "the clock of this machine says %s", conf.FormatTime(now)).
			WithHint("set the clock: certificates made now would be invalid later")
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return makeCA(clusterID, key, now)
}

func makeCA(clusterID string, key crypto.Signer, now time.Time, more ...pkix.Extension) (*CA, error) {
	uri, err := url.Parse(clusterName(clusterID))
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "naming the cluster: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Holdfast cluster " + clusterID},
		URIs:                  []*url.URL{uri},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		ExtraExtensions:       more,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, cluster: clusterID}, nil
}

// ParseCA reads a CA from the PEM forms of its certificate and key.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := decodeCerts(certPEM)
	if err != nil {
		return nil, err
	}
	keys, err := decodeKeys(keyPEM)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 || len(keys) != 1 {
		return nil, conf.Errorf(conf.CodeCorrupt, "%d certificates and %d keys of a CA where one of each is expected", len(certs), len(keys))
	}
	return newCA(certs[0], keys[0])
}

func newCA(cert *x509.Certificate, key crypto.Signer) (*CA, error) {
	cluster, err := checkCA(cert)
	if err != nil {
		return nil, err
	}
	if !samePublic(cert.PublicKey, key.Public()) {
		return nil, conf.Errorf(conf.CodeCorrupt, "the key of the cluster's CA is not that of its certificate")
	}
	return &CA{cert: cert, key: key, cluster: cluster}, nil
}

// checkCA returns the cluster of a CA certificate, which must be self-signed.
func checkCA(c *x509.Certificate) (clusterID string, err error) {
	if !c.IsCA || !c.BasicConstraintsValid || c.CheckSignatureFrom(c) != nil {
		return "", conf.Errorf(conf.CodeCorrupt, "the certificate is not that of a cluster's CA")
	}
	uri, ok := soleURI(c)
	if !ok || len(uri) <= len(scheme) || uri[:len(scheme)] != scheme || CheckClusterID(uri[len(scheme):]) != nil {
		return "", conf.Errorf(conf.CodeCorrupt, "the CA certificate names no cluster")
	}
	return uri[len(scheme):], nil
}

// ClusterID returns the cluster of the CA.
func (ca *CA) ClusterID() string { return ca.cluster }

// Certificate is the CA's own certificate. It is not to be changed.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Hash is what join tokens pin: see HashCA.
func (ca *CA) Hash() string { return HashCA(ca.cert) }

// CertPEM is the PEM form of the certificate.
func (ca *CA) CertPEM() []byte { return encodeCerts(ca.cert) }

// KeyPEM is the PEM form of the key. With it certificates for any member can be issued.
func (ca *CA) KeyPEM() ([]byte, error) { return encodeKeys(ca.key) }

// HashCA is the lower-case hex SHA-256 of a certificate's DER form.
func HashCA(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Issue makes a certificate for the public key of a CSR. The rest of the CSR is
// ignored; its signature shows that the requester has the private key.
func (ca *CA) Issue(csrDER []byte, nodeID string, role Role, ttl time.Duration, now time.Time) (*x509.Certificate, error) {
	csr, err := checkCSR(csrDER)
	if err != nil {
		return nil, err
	}
	if err := conf.CheckNode(nodeID); err != nil {
		return nil, err
	}
	if _, err := ParseRole(string(role)); err != nil {
		return nil, err
	}
	from, to, err := ca.validity(ttl, now)
	if err != nil {
		return nil, err
	}
	uri, err := url.Parse(nodeName(ca.cluster, role, nodeID))
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "naming the member: %w", err)
	}
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: nodeID},
		URIs:                  []*url.URL{uri},
		NotBefore:             from,
		NotAfter:              to,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, ca.cert, csr.PublicKey, ca.key)
}

func sign(template, parent *x509.Certificate, pub any, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "making a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "making a certificate: %w", err)
	}
	return cert, nil
}

// NewKey makes the private key of a member or of a CA: ECDSA P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "making a key: %w", err)
	}
	return key, nil
}

// NewCSR makes a certificate request for key. It has no name: the join token or the
// current certificate says who the certificate is for.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "making a certificate request: %w", err)
	}
	return der, nil
}

// checkCSR accepts ECDSA P-256 and Ed25519 only: large keys would cost the cluster
// processor time.
func checkCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, conf.Errorf(conf.CodeTooLarge, "certificate request of %d bytes is over the limit of %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "malformed certificate request: %w", err)
	}
	switch k := csr.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, conf.Errorf(conf.CodeInvalid, "the key of the certificate request is on the curve %s", k.Curve.Params().Name).
				WithHint("use ECDSA P-256 or Ed25519")
		}
	default:
		return nil, conf.Errorf(conf.CodeInvalid, "the key of the certificate request is of the kind %s", csr.PublicKeyAlgorithm).
			WithHint("use ECDSA P-256 or Ed25519")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "the certificate request is not signed by its key: %w", err)
	}
	return csr, nil
}

// KeyHash checks a CSR and returns the lower-case hex SHA-256 of its public key,
// the form that join tokens store.
func KeyHash(csrDER []byte) (string, error) {
	csr, err := checkCSR(csrDER)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}

func samePublic(a, b any) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
