package transport_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

func TestCalls(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	c := newCluster(t, "blue")
	b := start(t, c.server("b"), func(o *transport.Options) {
		o.Limits.Body = 1000
		o.RPC = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, ok := transport.PeerFrom(r.Context())
			if !ok || r.Proto != "HTTP/1.1" {
				t.Errorf("a call by nobody, or %s", r.Proto)
			}
			if r.URL.Path == "/elsewhere" {
				http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
				return
			}
			body, err := io.ReadAll(r.Body)
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = io.WriteString(w, string(p.Role)+" "+p.NodeID+" "+r.URL.RequestURI()+" "+string(body))
		})
	})
	addrOf := func(o *transport.Options) {
		o.AddrOf = func(node string) (string, bool) {
			return map[string]string{"b": b.Addr(), "c": b.Addr()}[node], node != "nobody"
		}
	}
	a, s := start(t, c.server("a"), addrOf), start(t, c.sidecar("s"), addrOf)
	if code, text := get(t, a.Client("b"), "http://whatever/x//y%2Fz?q=1"); code != 200 || text != "server a /x//y%2Fz?q=1 " {
		t.Errorf("%d %q", code, text)
	}
	if _, text := get(t, s.Client("b"), "http://b/"); text != "sidecar s / " {
		t.Errorf("%q", text)
	}
	for range 20 {
		get(t, a.Client("b"), "http://b/")
	}
	if st := b.Stats(); st.Accepted[transport.ProtoRPC] > 4 {
		t.Errorf("connections are not used again: %+v", st)
	}
	if code, _ := get(t, a.Client("b"), "http://b/elsewhere"); code != http.StatusTemporaryRedirect {
		t.Errorf("a redirect was followed: %d", code)
	}
	resp := must(a.Client("b").Post("http://b/", "text/plain", bytes.NewReader(make([]byte, 1001))))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d", resp.StatusCode)
	}
	// A call goes to the member that it is meant for, or to nobody.
	for node, code := range map[string]conf.Code{"c": conf.CodeDenied, "nobody": conf.CodeNotFound} {
		_, err := a.Client(node).Get("http://x/")
		wantCode(t, err, code)
	}
	_, err := b.Client("a").Get("http://x/") // b was told no addresses
	wantCode(t, err, conf.CodeNotFound)
	wantHint(t, err)
}

func TestStreamedAnswer(t *testing.T) {
	c := newCluster(t, "blue")
	b := start(t, c.server("b"), func(o *transport.Options) {
		o.RPC = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
	})
	a := start(t, c.server("a"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	r := must(http.NewRequestWithContext(ctx, http.MethodGet, "http://b/", nil))(t)
	resp := must(a.clientOf(b).Do(r))(t)
	defer resp.Body.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		t.Errorf("%q %v", buf, err)
	}
	cancel()
	await(t, "the server has noticed", func() bool { return b.Stats().Open == 0 })
}

func TestRenew(t *testing.T) {
	c := newCluster(t, "blue")
	b := start(t, must(c.server("b").WithCA(c.ca))(t), func(o *transport.Options) { o.CertTTL = 48 * time.Hour })
	plain := start(t, c.server("plain"), nil)
	addrOf := func(o *transport.Options) {
		o.AddrOf = func(node string) (string, bool) {
			return map[string]string{"b": b.Addr(), "plain": plain.Addr()}[node], true
		}
	}
	for _, id := range []*pki.Identity{c.sidecar("s"), c.server("a")} {
		p := start(t, id, addrOf)
		fresh := must(p.Renew(t.Context(), "b"))(t)
		if fresh.NodeID != id.NodeID || fresh.Role != id.Role || fresh.Peer().Serial == id.Peer().Serial || !fresh.Cert.NotAfter.After(id.Cert.NotAfter) {
			t.Errorf("%+v", fresh.Peer())
		}
		if err := p.SetIdentity(fresh); err != nil {
			t.Fatal(err)
		}
		again := must(p.Renew(t.Context(), "b"))(t) // with the new certificate
		if err := again.Save(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		_, err := p.Renew(t.Context(), "plain")
		wantCode(t, err, conf.CodeUnsupported)
		wantHint(t, err)
	}
	// A server with the CA key needs nobody.
	if fresh := must(b.Renew(t.Context(), "nobody"))(t); fresh.Peer().Serial == b.Identity().Peer().Serial || fresh.CA == nil {
		t.Errorf("%+v", fresh.Peer())
	}
}

// Whatever a member asks, it gets a certificate for itself only.
func TestRenewIsForOneself(t *testing.T) {
	c := newCluster(t, "blue")
	b := start(t, must(c.server("b").WithCA(c.ca))(t), nil)
	s := start(t, c.sidecar("s"), nil)
	csr := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
	for name, tc := range map[string]struct {
		method, kind, body string
		status             int
	}{
		"more than asked for": {"POST", "application/json", `{"csr":"` + b64(csr) + `","node_id":"leader","role":"server"}`, 400},
		"a GET":               {"GET", "", "", 405},
		"not JSON":            {"POST", "text/plain", "x", 400},
		"no CSR":              {"POST", "application/json", `{}`, 400},
		"a huge body":         {"POST", "application/json", `{"csr":"` + strings.Repeat("A", 1<<20) + `"}`, 413},
	} {
		r := must(http.NewRequestWithContext(t.Context(), tc.method, "http://b/renew", strings.NewReader(tc.body)))(t)
		r.Header.Set("Content-Type", tc.kind)
		resp := must(s.clientOf(b).Do(r))(t)
		text := must(io.ReadAll(resp.Body))(t)
		resp.Body.Close()
		if resp.StatusCode != tc.status || !bytes.Contains(text, []byte(`"success":false`)) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
}

// Who is asked to renew cannot bring a CA that is not trusted yet.
func TestRenewTrustsOnlyTheCA(t *testing.T) {
	c, evil := newCluster(t, "blue"), newCluster(t, "blue")
	mine := c.server("b")
	id := must(pki.NewIdentity(mine.Cert.Raw, mine.Key, [][]byte{c.ca.Certificate().Raw, evil.ca.Certificate().Raw}))(t)
	b := start(t, must(id.WithCA(evil.ca))(t), nil)
	s := start(t, c.sidecar("s"), func(o *transport.Options) {
		o.AddrOf = func(string) (string, bool) { return b.Addr(), true }
	})
	_, err := s.Renew(t.Context(), "b")
	if conf.CodeOf(err) != conf.CodeDenied || !strings.Contains(err.Error(), "does not trust") {
		t.Errorf("%v", err)
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
