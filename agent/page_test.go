package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestPageHasAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, map[string]string{"CONFIG_UI_ADDR": "127.0.0.1:0"})).ready()
	info := r.Info()
	if info.PageURL == info.AdminURL || info.PageURL == "" {
		t.Fatalf("the page is at %q, the admin API at %q", info.PageURL, info.AdminURL)
	}
	for _, base := range []string{info.PageURL, info.AdminURL} {
		if code, _, body := r.Call("GET", base+"/", ""); code != http.StatusOK || !strings.Contains(body, "importmap") {
			t.Errorf("the page at %s: %d %s", base, code, body)
		}
		if code, _, body := r.Call("GET", base+"/api/config/me", "", "X-API-Token", testenv.WriteToken); code != http.StatusOK {
			t.Errorf("the API at %s: %d %s", base, code, body)
		}
	}
	link := r.Agent.SignInURL(testenv.WriteToken)
	base, secret, ok := strings.Cut(link, "/#link=")
	if !ok || base != info.PageURL || strings.Contains(link, testenv.WriteToken) {
		t.Fatalf("the link is %q", link)
	}
	for i, want := range []int{http.StatusOK, http.StatusUnauthorized} {
		if code, _, body := r.Call("POST", base+"/api/session", `{"link":"`+secret+`"}`); code != want {
			t.Errorf("use %d of the link: %d %s, want %d", i+1, code, body, want)
		}
	}
}

func TestPageWhereThePortIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := testenv.Options(t, map[string]string{"CONFIG_UI_ADDR": l.Addr().String()})
	log := testenv.NewTranscript()
	a, err := agent.New(t.Context(), o, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatalf("an agent does not run without its page: %v", err)
	}
	r := run(t, o, a).ready()
	if got := r.Info(); got.PageURL != got.AdminURL {
		t.Errorf("the page is said to be at %s", got.PageURL)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "CONFIG_UI_ADDR") {
		t.Errorf("nothing is said of it: %s", log.String())
	}
	if code, _, _ := r.Call("GET", r.Info().AdminURL+"/", ""); code != http.StatusOK {
		t.Errorf("the page at the admin port: %d", code)
	}
}

func TestPageIsOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ role, addr, want string }{
		{conf.MemberServer, "none", ""},
		{conf.MemberServer, "127.0.0.1:8080", "127.0.0.1:8080"},
		{conf.MemberServer, "", "127.0.0.1:8080"},
		{conf.MemberSidecar, "", ""},                             // each service has a sidecar
		{conf.MemberSidecar, "127.0.0.1:8080", "127.0.0.1:8080"}, // asked for
		{conf.MemberSidecar, "127.0.0.1:9080", "127.0.0.1:9080"},
	} {
		if got := agent.PageAddr(tc.role, tc.addr); got != tc.want {
			t.Errorf("%s, CONFIG_UI_ADDR=%s: %q, want %q", tc.role, tc.addr, got, tc.want)
		}
	}
}

// writeCertificate writes a self-signed certificate with the serial number, and its key. It
// is for a name that no test dials.
func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"config.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdminPortWithTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	o := testenv.Options(t, map[string]string{"CONFIG_UI_ADDR": "127.0.0.1:0", "CONFIG_MANAGER_TLS_CERT": cert, "CONFIG_MANAGER_TLS_KEY": key})
	r := start(t, o).ready()
	info := r.Info()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	web := &http.Client{Transport: transport}
	get := func(url string) *http.Response {
		t.Helper()
		res, err := web.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res
	}
	for _, base := range []string{info.AdminURL, info.PageURL} {
		if !strings.HasPrefix(base, "https://") {
			t.Fatalf("the address is %s", base)
		}
		if res := get(base + "/"); res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			t.Errorf("%s: %s %s", base, res.Proto, res.Status)
		}
	}
	res, err := web.Post(info.AdminURL+"/api/session", "application/json", strings.NewReader(`{"token":"`+testenv.WriteToken+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("Set-Cookie"); !strings.Contains(got, "; Secure") {
		t.Errorf("the cookie is %s", got)
	}
	if res, err := http.Get(strings.Replace(info.AdminURL, "https", "http", 1) + "/"); err == nil {
		_ = res.Body.Close()
		if res.StatusCode < 400 {
			t.Errorf("in plain HTTP: %s", res.Status)
		}
	}

	// The command line on this host knows the certificate by its file, and no other one.
	ask := func(file string) error {
		o.ManagerCert = file
		c, err := client.New(client.Options{AdminURL: info.AdminURL, AdminTLS: o.AdminTLS(), Token: testenv.WriteToken})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Me(t.Context())
		return err
	}
	if err := ask(cert); err != nil {
		t.Errorf("a client on this host: %v", err)
	}
	other := filepath.Join(dir, "other.pem")
	writeCertificate(t, other, filepath.Join(dir, "other-key.pem"), 3)
	if err := ask(other); err == nil {
		t.Error("another certificate is accepted")
	}

	// A renewed certificate is served without a restart.
	writeCertificate(t, cert, key, 2)
	r.Await("the renewed certificate", func() bool {
		return get(info.AdminURL + "/").TLS.PeerCertificates[0].SerialNumber.Int64() == 2
	})
}
