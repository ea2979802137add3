package transport_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// guarded is a port that fails the test when anything is handed over.
func guarded(t *testing.T, id *pki.Identity, change func(*transport.Options)) *port {
	t.Helper()
	p := start(t, id, func(o *transport.Options) {
		o.Limits.Handshake = patience // what is judged is judged before, on any machine
		o.RPC = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("rpc got %s from %s", r.URL, r.RemoteAddr) })
		if change != nil {
			change(o)
		}
	})
	go func() {
		for {
			c, err := p.layer.Accept()
			if err != nil {
				return
			}
			who, _ := transport.PeerOf(c)
			t.Errorf("Raft got a connection of %+v", who)
			c.Close()
		}
	}()
	return p
}

// signed makes a certificate that the CA itself would not make.
func (c *cluster) signed(change func(*x509.Certificate)) *tls.Certificate {
	c.t.Helper()
	key := must(pki.NewKey())(c.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs: []*url.URL{uri("holdfast://blue/server/x")}, BasicConstraintsValid: true,
	}
	change(template)
	der := must(x509.CreateCertificate(rand.Reader, template, c.ca.Certificate(), key.Public(), c.caKey()))(c.t)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func uri(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestStrangersAreRefused(t *testing.T) {
	c := newCluster(t, "blue")
	p := guarded(t, c.server("b"), func(o *transport.Options) {
		o.Allowed = func(p pki.Peer) error {
			if p.NodeID == "gone" {
				return conf.Errorf(conf.CodeDenied, "removed")
			}
			return nil
		}
	})
	now := time.Now()
	good := certOf(c.server("a"))
	selfSigned := func() *tls.Certificate {
		key := must(pki.NewKey())(t)
		like := *c.server("a").Cert
		like.PublicKey = nil
		der := must(x509.CreateCertificate(rand.Reader, &like, &like, key.Public(), key))(t)
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}()
	// A member signs for others: it is no CA.
	member := c.server("a")
	key := must(pki.NewKey())(t)
	chained := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{
		must(x509.CreateCertificate(rand.Reader, c.server("z").Cert, member.Cert, key.Public(), member.Key))(t), member.Cert.Raw,
	}}
	v12 := func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 }
	type attempt struct {
		cert   *tls.Certificate
		protos []string
		change func(*tls.Config)
		reason transport.Reason
	}
	both := map[string]attempt{
		"no certificate":          {cert: nil, reason: transport.ReasonNoCertificate},
		"another cluster":         {cert: certOf(newCluster(t, "green").server("a")), reason: transport.ReasonUntrusted},
		"another CA, same names":  {cert: certOf(newCluster(t, "blue").server("a")), reason: transport.ReasonUntrusted},
		"self-signed, same names": {cert: selfSigned, reason: transport.ReasonUntrusted},
		"signed by a member":      {cert: chained, reason: transport.ReasonUntrusted},
		"expired":                 {cert: certOf(c.identityAt("a", pki.RoleServer, time.Minute, now.Add(-30*time.Minute))), reason: transport.ReasonExpired},
		"for servers only": {
			cert:   c.signed(func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			reason: transport.ReasonUntrusted,
		},
		"other cluster in the name": {
			cert: c.signed(func(x *x509.Certificate) { x.URIs[0] = uri("holdfast://green/server/x") }), reason: transport.ReasonName,
		},
		"unknown role": {cert: c.signed(func(x *x509.Certificate) { x.URIs[0] = uri("holdfast://blue/admin/x") }), reason: transport.ReasonName},
		"no name":      {cert: c.signed(func(x *x509.Certificate) { x.URIs = nil }), reason: transport.ReasonName},
		"two names": {
			cert: c.signed(func(x *x509.Certificate) { x.URIs = append(x.URIs, uri("holdfast://blue/server/y")) }), reason: transport.ReasonName,
		},
		"a host name too": {cert: c.signed(func(x *x509.Certificate) { x.DNSNames = []string{"x"} }), reason: transport.ReasonName},
		"a path too many": {cert: c.signed(func(x *x509.Certificate) { x.URIs[0] = uri("holdfast://blue/server/x/y") }), reason: transport.ReasonName},
		"a query":         {cert: c.signed(func(x *x509.Certificate) { x.URIs[0] = uri("holdfast://blue/server/x?y") }), reason: transport.ReasonName},
		"an escape":       {cert: c.signed(func(x *x509.Certificate) { x.URIs[0] = uri("holdfast://blue/server/%78%2f") }), reason: transport.ReasonName},
		"the CA itself": {
			cert: &tls.Certificate{Certificate: [][]byte{c.ca.Certificate().Raw}, PrivateKey: c.caKey()}, reason: transport.ReasonUntrusted,
		},
		"removed":          {cert: certOf(c.server("gone")), reason: transport.ReasonRemoved},
		"the id of this":   {cert: certOf(c.server("b")), reason: transport.ReasonDuplicate},
		"TLS 1.2":          {cert: good, change: v12, reason: transport.ReasonProtocol},
		"a huge chain":     {cert: &tls.Certificate{Certificate: append([][]byte{good.Certificate[0]}, manyCerts(c, 100)...), PrivateKey: good.PrivateKey}, reason: transport.ReasonOversized},
		"no such protocol": {cert: good, protos: []string{"h2"}, reason: transport.ReasonProtocol},
		"no protocol":      {cert: good, protos: []string{}, reason: transport.ReasonProtocol},
		"two protocols":    {cert: good, protos: []string{transport.ProtoRPC, transport.ProtoRaft}, reason: transport.ReasonProtocol},
		"a newer version":  {cert: good, protos: []string{"holdfast-raft/2"}, reason: transport.ReasonProtocol},
	}
	for _, proto := range []string{transport.ProtoRaft, transport.ProtoRPC} {
		all := map[string]attempt{}
		for name, a := range both {
			all[name] = a
		}
		if proto == transport.ProtoRaft {
			all["a sidecar"] = attempt{cert: certOf(c.sidecar("s")), reason: transport.ReasonRole}
		}
		for name, a := range all {
			t.Run(proto[9:12]+"/"+name, func(t *testing.T) {
				before := p.Stats().Refused[a.reason]
				if a.protos == nil {
					a.protos = []string{proto}
				}
				cfg := foreign(a.cert, a.protos...)
				if a.change != nil {
					a.change(cfg)
				}
				raw := dialTCP(t, p.Addr())
				conn := tls.Client(raw, cfg)
				// In TLS 1.3 the client is done before the server has judged it.
				if err := conn.Handshake(); err == nil {
					_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				closed(t, raw)
				if r := p.why(); r.Reason != a.reason || r.Source != raw.LocalAddr().String() {
					t.Errorf("refused for %+v, want %s", r, a.reason)
				}
				if st := p.Stats(); st.Refused[a.reason] != before+1 || len(st.Accepted) != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
	await(t, "all of them are gone", func() bool { st := p.Stats(); return st.Open == 0 && st.Handshaking == 0 })
}

func manyCerts(c *cluster, n int) [][]byte {
	var out [][]byte
	for range n {
		out = append(out, c.ca.Certificate().Raw)
	}
	return out
}

// What is not TLS, or only the beginning of it.
func TestJunkIsRefused(t *testing.T) {
	c := newCluster(t, "blue")
	patient := guarded(t, c.server("b"), nil)
	hasty := guarded(t, c.server("b"), func(o *transport.Options) { o.Limits.Handshake = 300 * time.Millisecond })
	junk := make([]byte, 64<<10)
	_, _ = rand.Read(junk)
	junk[0] = 0xFF
	hello := clientHello(t)
	for name, tc := range map[string]struct {
		send   []byte
		hangUp bool
		reason transport.Reason
	}{
		"random bytes":       {junk, false, transport.ReasonNotTLS},
		"HTTP":               {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false, transport.ReasonNotTLS},
		"a Raft heartbeat":   {append([]byte{0}, bytes.Repeat([]byte{0x80}, 100)...), false, transport.ReasonNotTLS},
		"nothing":            {nil, false, transport.ReasonTimeout},
		"one byte":           {[]byte{22}, false, transport.ReasonTimeout},
		"half a hello":       {hello[:len(hello)/2], false, transport.ReasonTimeout},
		"only the hello":     {hello, false, transport.ReasonTimeout},
		"half and a hang-up": {hello[:len(hello)/2], true, transport.ReasonHungUp},
		"hang-up at once":    {nil, true, transport.ReasonHungUp},
		"a huge record":      {[]byte{22, 3, 1, 0xFF, 0xFF, 1}, false, transport.ReasonNotTLS},
		"a huge message":     {[]byte{22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF}, false, transport.ReasonProtocol},
		"endless fragments":  {bytes.Repeat([]byte{22, 3, 1, 0, 1, 0}, 20000), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := patient
			if tc.reason == transport.ReasonTimeout {
				p = hasty
			}
			raw := dialTCP(t, p.Addr())
			_, _ = raw.Write(tc.send)
			if tc.hangUp {
				raw.Close()
			} else {
				closed(t, raw)
			}
			if r := p.why(); tc.reason != "" && r.Reason != tc.reason {
				t.Errorf("refused for %+v, want %s", r, tc.reason)
			}
		})
	}
	for _, p := range []*port{patient, hasty} {
		await(t, "all of them are gone", func() bool { st := p.Stats(); return st.Open == 0 && st.Handshaking == 0 })
		if st := p.Stats(); len(st.Accepted) != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// clientHello is the first flight of a good client.
func clientHello(t *testing.T) []byte {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, foreign(nil, transport.ProtoRPC)).Handshake()
		a.Close()
	}()
	buf := make([]byte, 1<<16)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// Five hundred sockets that say nothing cost little, go away, and do not keep
// members out.
func TestIdleSockets(t *testing.T) {
	const sockets = 500
	c := newCluster(t, "blue")
	p := start(t, c.server("b"), func(o *transport.Options) {
		o.Limits = transport.Limits{Handshake: 8 * time.Second, Handshakes: 40, HandshakesPerSource: 40}
	})
	echo(p.layer)
	a := start(t, c.server("a"), nil)
	goroutines, before := runtime.NumGoroutine(), heap()
	var most atomic.Int64
	conns := make([]net.Conn, sockets)
	for i := range conns {
		conns[i] = dialTCP(t, p.Addr())
		most.Store(max(most.Load(), int64(p.Stats().Handshaking)))
	}
	await(t, "the flood has arrived", func() bool {
		st := p.Stats()
		arrived := uint64(st.Handshaking)
		for _, n := range st.Refused { // too many at once, or on a slow machine too late by now
			arrived += n
		}
		return arrived >= sockets
	})
	if n := runtime.NumGoroutine() - goroutines; n > 60 {
		t.Errorf("%d goroutines more", n)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes more on the heap", grown)
	}
	if most.Load() > 40 {
		t.Errorf("%d handshakes at once", most.Load())
	}
	// While the survivors of the flood still hold every slot, a member gets in.
	await(t, "a member gets in", func() bool {
		conn, err := a.layer.Dial(p.Addr(), patience)
		if err != nil {
			return false
		}
		said(t, conn, "append")
		return conn.Close() == nil
	})
	if p.Stats().Handshaking == 0 {
		t.Error("the flood was over before the member came: the test shows nothing")
	}
	for _, conn := range conns {
		closed(t, conn)
	}
	await(t, "all slots are free", func() bool { st := p.Stats(); return st.Open == 0 && st.Handshaking == 0 })
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLimitsOfConnections(t *testing.T) {
	c := newCluster(t, "blue")
	a := start(t, c.server("a"), nil)
	for name, tc := range map[string]struct {
		limits transport.Limits
		reason transport.Reason
		told   bool // the dialing side learns that it is one too many
	}{
		"in all":     {transport.Limits{Conns: 3}, transport.ReasonConns, false},
		"per source": {transport.Limits{ConnsPerSource: 3}, transport.ReasonSource, false},
		"per member": {transport.Limits{ConnsPerPeer: 3}, transport.ReasonPeer, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.server("b"), func(o *transport.Options) { o.Limits = tc.limits })
			echo(p.layer)
			var conns []net.Conn
			for range 3 {
				conns = append(conns, must(a.layer.Dial(p.Addr(), patience))(t))
			}
			_, err := a.layer.Dial(p.Addr(), patience)
			if err == nil || tc.told != (conf.CodeOf(err) == conf.CodeRateLimited) {
				t.Errorf("the fourth: %v", err)
			}
			if r := p.why(); r.Reason != tc.reason {
				t.Errorf("%+v", r)
			}
			if st := p.Stats(); st.Open != 3 {
				t.Errorf("%+v", st)
			}
			conns[0].Close()
			await(t, "one is gone", func() bool { return p.Stats().Open == 2 })
			said(t, must(a.layer.Dial(p.Addr(), patience))(t), "x")
			for _, conn := range conns {
				said2(t, conn, conns[0])
			}
		})
	}
}

func said2(t *testing.T, conn, but net.Conn) {
	t.Helper()
	if conn != but {
		said(t, conn, "still here")
	}
}

// A client must not get a ticket to skip the judgement with next time.
func TestNoResumption(t *testing.T) {
	c := newCluster(t, "blue")
	p := start(t, c.server("b"), nil)
	echo(p.layer)
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for range 2 {
		cfg := foreign(certOf(c.server("a")), transport.ProtoRaft)
		cfg.ClientSessionCache, cfg.ServerName = cache, "b"
		conn := must(tls.Dial("tcp", p.Addr(), cfg))(t)
		var welcome [1]byte
		if _, err := io.ReadFull(conn, welcome[:]); err != nil || welcome[0] != 1 {
			t.Fatalf("verdict %v, %v", welcome, err)
		}
		said(t, conn, "x")
		if st := conn.ConnectionState(); st.DidResume || st.Version != tls.VersionTLS13 {
			t.Errorf("resumed %v, version %x", st.DidResume, st.Version)
		}
		conn.Close()
	}
	if cache.puts.Load() > 0 {
		t.Error("the server gave a ticket")
	}
}

type countingCache struct {
	tls.ClientSessionCache
	puts atomic.Int64
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts.Add(1)
	}
	c.ClientSessionCache.Put(key, s)
}
