package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// oidEndorsed is the extension of a CA's certificate that contains the endorsement by
// the CA before it: {2 25 UUID}, with 2fd3a1c6-90b7-4d5e-8a41-6f0b1c9d7e53 folded to 31
// bits.
var oidEndorsed = asn1.ObjectIdentifier{2, 25, 801347014, 1}

// endorsement is the content of the extension.
type endorsement struct {
	By        []byte // SHA-256 of the older CA's certificate
	Signature []byte // of statement by its key
}

// statement returns what the older CA signs: the cluster and the public key of the next.
func statement(clusterID string, spki []byte) []byte {
	h := sha256.New()
	h.Write([]byte("holdfast next CA v1|" + clusterID + "|"))
	h.Write(spki)
	return h.Sum(nil)
}

// NextCA makes the CA that follows old, endorsed by old in its certificate: a member
// that was offline and trusts only old accepts certificates from the new one.
func NextCA(old *CA, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "writing a key: %w", err)
	}
	sig, err := old.key.Sign(rand.Reader, statement(old.cluster, spki), crypto.SHA256)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "endorsing a CA: %w", err)
	}
	by := sha256.Sum256(old.cert.Raw)
	value, err := asn1.Marshal(endorsement{by[:], sig})
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "endorsing a CA: %w", err)
	}
	return makeCA(old.cluster, key, now, pkix.Extension{Id: oidEndorsed, Value: value})
}

// Endorsed reports whether one of the CAs by endorses the CA next.
func Endorsed(next *x509.Certificate, by []*x509.Certificate) bool {
	cluster, err := checkCA(next)
	if err != nil {
		return false
	}
	for _, ext := range next.Extensions {
		if !ext.Id.Equal(oidEndorsed) {
			continue
		}
		var e endorsement
		if rest, err := asn1.Unmarshal(ext.Value, &e); err != nil || len(rest) > 0 {
			return false
		}
		for _, ca := range by {
			sum := sha256.Sum256(ca.Raw)
			if of, err := checkCA(ca); err != nil || of != cluster || !bytes.Equal(sum[:], e.By) {
				continue
			}
			if verifyStatement(ca, statement(cluster, next.RawSubjectPublicKeyInfo), e.Signature) {
				return true
			}
		}
	}
	return false
}

// verifyStatement checks a signature of the key of ca over a digest.
func verifyStatement(ca *x509.Certificate, digest, sig []byte) bool {
	key, ok := ca.PublicKey.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(key, digest, sig)
}

// ClusterOf returns the cluster of a CA's certificate, "" if it is none.
func ClusterOf(ca *x509.Certificate) string {
	cluster, err := checkCA(ca)
	if err != nil {
		return ""
	}
	return cluster
}

// PEM returns the certificate and the key of the CA.
func (ca *CA) PEM() ([]byte, error) {
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	return append(ca.CertPEM(), key...), nil
}

// ParseCAPEM reads the form that PEM returns.
func ParseCAPEM(data []byte) (*CA, error) {
	at := bytes.Index(data, []byte("-----BEGIN "+pemKey))
	if at < 0 {
		return nil, conf.Errorf(conf.CodeCorrupt, "no key of a CA in it")
	}
	return ParseCA(data[:at], data[at:])
}

// Issuer returns the CA that signed the certificate.
func (id *Identity) Issuer() *x509.Certificate { return id.issuer }

// TrustCA returns id with one more trusted CA, which a trusted one must endorse.
func (id *Identity) TrustCA(ca *x509.Certificate) (*Identity, error) {
	if id.Trusts(ca) {
		return id, nil
	}
	if !Endorsed(ca, id.CAs) {
		return nil, conf.Errorf(conf.CodeDenied, "no CA that this agent trusts endorses the CA %s", HashCA(ca)).WithHint("%s", hintRejoin)
	}
	return id.WithCAs(append(id.CAs[:len(id.CAs):len(id.CAs)], ca))
}

// SwitchCA returns id with a certificate from ca, which it trusts and whose key it has. It
// issues certificates by ca from then on. Its own key stays.
func (id *Identity) SwitchCA(ca *CA, ttl time.Duration, now time.Time) (*Identity, error) {
	if !id.Trusts(ca.cert) {
		return nil, conf.Errorf(conf.CodeDenied, "the CA %s is not trusted", ca.Hash())
	}
	return issueTo(ca, id.Key, id.NodeID, id.Role, ttl, now, caFirst(id.CAs, ca.cert))
}

// DistrustCA returns id without the CA with that hash. It fails for the issuer of its own
// certificate.
func (id *Identity) DistrustCA(hash string) (*Identity, error) {
	var cas []*x509.Certificate
	for _, c := range id.CAs {
		if HashCA(c) != hash {
			cas = append(cas, c)
		}
	}
	if len(cas) == len(id.CAs) {
		return id, nil
	}
	return id.WithCAs(cas)
}

const fileNextCA = "ca-next.pem"

// SaveNextCA writes a pending CA to dir, durably.
func SaveNextCA(dir string, ca *CA) error {
	data, err := ca.PEM()
	if err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return unwritable(dir, err)
	}
	if err := putFile(dir, fileNextCA, data); err != nil {
		return unwritable(dir, err)
	}
	return nil
}

// LoadNextCA reads the file of SaveNextCA; without one the error is fs.ErrNotExist.
func LoadNextCA(dir string) (*CA, error) {
	data, err := readFile(dir, fileNextCA)
	if err != nil {
		return nil, err
	}
	return ParseCAPEM(data)
}

// DropNextCA removes the file of SaveNextCA, if there is one.
func DropNextCA(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, fileNextCA)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return saveStep{fileNextCA, nil}.do(dir)
}
