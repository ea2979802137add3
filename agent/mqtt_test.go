package agent_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// writePair writes a new certificate of 127.0.0.1 and its key, and gives the pool
// that trusts it.
func writePair(t *testing.T, certFile, keyFile string, serial int64) *x509.CertPool {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, data := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// connectWithWill is a CONNECT of MQTT 3.1.1 with a Will, which the broker refuses.
var connectWithWill = []byte("\x10\x14\x00\x04MQTT\x04\x06\x00\x3c\x00\x01c\x00\x01w\x00\x02hi")

// TestBrokerSpeaksTLS serves a certificate from files, follows them when they
// change, and counts what it refuses.
func TestBrokerSpeaksTLS(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	o.MQTTAddr = "127.0.0.1:0"
	o.MQTTCert, o.MQTTKey = filepath.Join(o.DataDir, "mqtt.pem"), filepath.Join(o.DataDir, "mqtt.key")
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(t.Context(), o, testenv.Logger(t)); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
		t.Fatalf("without the files: %v", err)
	}
	first := writePair(t, o.MQTTCert, o.MQTTKey, 1)
	r := start(t, o).ready()
	addr := r.Rooms().Broker.Addr().String()
	refused := func(pool *x509.CertPool) bool {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testenv.Patience))
		if _, err := c.Write(connectWithWill); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4)
		if _, err := c.Read(answer); err != nil || answer[0] != 0x20 || answer[3] != 5 {
			t.Fatalf("the answer to a Will is % x, %v", answer, err)
		}
		return true
	}
	if !refused(first) {
		t.Fatal("the certificate is not served")
	}
	// Half a renewal changes nothing.
	second := writePair(t, o.MQTTCert, filepath.Join(t.TempDir(), "key"), 2)
	if !refused(first) || refused(second) {
		t.Fatal("a certificate without its key was served")
	}
	third := writePair(t, o.MQTTCert, o.MQTTKey, 3)
	r.Await("the new certificate", func() bool { return refused(third) })
	if refused(first) {
		t.Fatal("the old certificate is served still")
	}
	_, _, metrics := r.Call("GET", r.Info().LocalURL+"/metrics", "")
	for _, want := range []string{`holdfast_mqtt_refused_total{reason="will"} `, `holdfast_mqtt_refused_total{reason="panic"} 0`, "holdfast_mqtt_accepted_total "} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if strings.Contains(metrics, `reason="will"} 0`) || strings.Contains(metrics, "holdfast_mqtt_uplink") {
		t.Error("/metrics does not count Wills, or has an uplink that is not there")
	}
}
