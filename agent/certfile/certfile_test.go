package certfile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

// selfSigned makes a certificate.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// keptLog keeps what is logged.
type keptLog struct {
	out strings.Builder
}

func (l *keptLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&l.out, nil)) }

func (l *keptLog) count(text string) int { return strings.Count(l.out.String(), text) }

// A certificate that cannot be used is an alarm until one can: the old one stays.
func TestAlarmOfACertificate(t *testing.T) {
	dir, log := t.TempDir(), &keptLog{}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(c tls.Certificate) {
		t.Helper()
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err == nil {
			err = errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600),
				os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first := selfSigned(t)
	write(first)
	c := &certFiles{what: "the broker", cert: cert, key: key, alarms: alarm.NewSet(log.logger()), log: log.logger()}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	served := func() []byte {
		t.Helper()
		c.lastCheck = time.Time{}
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Certificate[0]
	}
	if err := os.WriteFile(cert, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(served(), first.Certificate[0]) || log.count(alarm.CertificateUnfit.Text) != 1 {
		t.Errorf("damaged: %s", &log.out)
	}
	second := selfSigned(t)
	write(second)
	if !bytes.Equal(served(), second.Certificate[0]) || log.count(alarm.CertificateUnfit.End) != 1 {
		t.Errorf("renewed: %s", &log.out)
	}
}
