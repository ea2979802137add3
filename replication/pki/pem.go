package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY" // PKCS #8
)

func encodeCerts(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: c.Raw}))
	}
	return b.Bytes()
}

func encodeKeys(keys ...crypto.Signer) ([]byte, error) {
	var b bytes.Buffer
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, conf.Errorf(conf.CodeInternal, "writing a key: %w", err)
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}))
	}
	return b.Bytes(), nil
}

func decodeCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	err := blocks(data, pemCert, func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		certs = append(certs, c)
		return err
	})
	return certs, err
}

func decodeKeys(data []byte) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	err := blocks(data, pemKey, func(der []byte) error {
		k, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return err
		}
		s, ok := k.(crypto.Signer)
		if !ok {
			return conf.Errorf(conf.CodeCorrupt, "not a signing key")
		}
		keys = append(keys, s)
		return nil
	})
	return keys, err
}

// blocks calls fn for each block. data must be one or more blocks of one kind, and
// nothing else.
func blocks(data []byte, kind string, fn func(der []byte) error) error {
	n := 0
	for len(bytes.TrimSpace(data)) > 0 {
		b, rest := pem.Decode(data)
		if b == nil || b.Type != kind || len(b.Headers) > 0 || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
			return conf.Errorf(conf.CodeCorrupt, "not the PEM form of a %s", kind)
		}
		if err := fn(b.Bytes); err != nil {
			return conf.Errorf(conf.CodeCorrupt, "malformed %s: %w", kind, err)
		}
		n, data = n+1, rest
	}
	if n == 0 {
		return conf.Errorf(conf.CodeCorrupt, "no %s in it", kind)
	}
	return nil
}
