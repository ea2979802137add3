package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// streamLayer is what hashicorp/raft asks for, but for the type of the address.
type streamLayer interface {
	net.Listener
	Dial(addr string, timeout time.Duration) (net.Conn, error)
}

var _ streamLayer = (*transport.RaftLayer)(nil)

func TestRaftConnections(t *testing.T) {
	c := newCluster(t, "blue")
	a, b, s := start(t, c.server("a"), nil), start(t, c.server("b"), nil), start(t, c.sidecar("s"), nil)
	fromB, fromS := echo(b.layer), echo(s.layer)
	if a.layer.Addr().String() != a.Addr() || a.Addr() == "" {
		t.Errorf("addresses %s %s", a.layer.Addr(), a.Addr())
	}
	for _, to := range []struct {
		p     *port
		peers <-chan pki.Peer
		role  pki.Role
	}{{b, fromB, pki.RoleServer}, {s, fromS, pki.RoleSidecar}} {
		conn := must(a.layer.Dial(to.p.Addr(), patience))(t)
		defer conn.Close()
		said(t, conn, "append")
		said(t, conn, strings.Repeat("x", 1<<20)) // more than any limit of the handshake
		if p := <-to.peers; p != a.Identity().Peer() {
			t.Errorf("%s thinks that %+v calls", to.p.Identity().NodeID, p)
		}
		if p, ok := transport.PeerOf(conn); !ok || p.NodeID != to.p.Identity().NodeID || p.Role != to.role {
			t.Errorf("the dialing side thinks that %+v answers", p)
		}
	}
	if st := b.Stats(); st.Open != 1 || st.Accepted[transport.ProtoRaft] != 1 || st.Handshaking != 0 || len(st.Refused) != 0 {
		t.Errorf("%+v", st)
	}
	// A sidecar never calls, and does not even connect.
	_, err := s.layer.Dial(b.Addr(), patience)
	wantCode(t, err, conf.CodeDenied)
	if st := b.Stats(); st.Open != 1 || len(st.Refused) != 0 {
		t.Errorf("%+v", st)
	}
}

// Raft closes its layer when it stops; the port stays, and Raft can come back.
func TestLayerCloses(t *testing.T) {
	c := newCluster(t, "blue")
	a, b := start(t, c.server("a"), nil), start(t, c.server("b"), nil)
	echo(b.layer)
	conn := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "x")
	if err := b.layer.Close(); err != nil {
		t.Fatal(err)
	}
	closed(t, conn)
	_, err := a.layer.Dial(b.Addr(), patience)
	wantCode(t, err, conf.CodeUnsupported)
	wantHint(t, err)
	if r := b.why(); r.Reason != transport.ReasonNotServing || r.Peer.NodeID != "a" || r.Protocol != transport.ProtoRaft {
		t.Errorf("%+v", r)
	}
	if _, err := b.layer.Accept(); err == nil {
		t.Error("a closed layer accepts")
	}
	if _, err := b.layer.Dial(a.Addr(), patience); err == nil {
		t.Error("a closed layer dials")
	}
	again := b.RaftLayer()
	echo(again)
	conn = must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "y")
	// One Raft at a time: a newer layer closes the one before.
	third := b.RaftLayer()
	closed(t, conn)
	if _, err := again.Accept(); err == nil {
		t.Error("two layers accept")
	}
	echo(third)
	said(t, must(a.layer.Dial(b.Addr(), patience))(t), "z")
}

func TestDialChecksWhoAnswers(t *testing.T) {
	c := newCluster(t, "blue")
	b, s := start(t, c.server("b"), nil), start(t, c.sidecar("s"), nil)
	other := start(t, newCluster(t, "blue").server("b"), nil) // the same names, another CA
	twin := start(t, c.server("a"), nil)
	past := start(t, c.identityAt("old", pki.RoleServer, time.Minute, time.Now().Add(-30*time.Minute)), nil)
	known := map[string]string{b.Addr(): "b"}
	var removed atomic.Bool
	a := start(t, c.server("a"), func(o *transport.Options) {
		o.NodeAt = func(addr string) (string, bool) { n, ok := known[addr]; return n, ok }
		o.Allowed = func(p pki.Peer) error {
			if removed.Load() && p.NodeID == "b" {
				return conf.Errorf(conf.CodeDenied, "removed")
			}
			return nil
		}
	})
	echo(b.layer)
	said(t, must(a.layer.Dial(b.Addr(), patience))(t), "x")
	known[s.Addr()] = "b" // s has taken the address of b, as far as a knows
	for name, tc := range map[string]struct {
		addr, text string
	}{
		"another cluster":    {other.Addr(), "not of this cluster"},
		"another node":       {s.Addr(), "answers node s, not b"},
		"its own id":         {twin.Addr(), "the node id of this one"},
		"an old certificate": {past.Addr(), "not good at this time"},
	} {
		_, err := a.layer.Dial(tc.addr, patience)
		if conf.CodeOf(err) != conf.CodeDenied || conf.HintOf(err) == "" || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	removed.Store(true)
	_, err := a.layer.Dial(b.Addr(), patience)
	wantCode(t, err, conf.CodeDenied)
	for _, p := range []*port{other, s, twin, past} {
		if st := p.Stats(); len(st.Accepted) != 0 {
			t.Errorf("%s was spoken to: %+v", p.Identity().NodeID, st)
		}
	}
}

// An older TLS shows certificates to any listener: it is not spoken, with
// any server.
func TestDialDemandsTLS13(t *testing.T) {
	c := newCluster(t, "blue")
	a := start(t, c.server("a"), nil)
	cfg := &tls.Config{Certificates: []tls.Certificate{*certOf(c.server("b"))}, NextProtos: []string{transport.ProtoRaft}}
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		cfg.MaxVersion = version
		l := must(tls.Listen("tcp", "127.0.0.1:0", cfg))(t)
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write([]byte{1})
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		conn, err := a.layer.Dial(l.Addr().String(), patience)
		if (err == nil) != (version == tls.VersionTLS13) {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
		l.Close()
	}
}

func TestDialEnds(t *testing.T) {
	c := newCluster(t, "blue")
	a := start(t, c.server("a"), nil)
	mute := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer mute.Close()
	begin := time.Now()
	_, err := a.layer.Dial(mute.Addr().String(), 50*time.Millisecond)
	wantCode(t, err, conf.CodeInternal)
	wantHint(t, err)
	if d := time.Since(begin); d > patience/2 {
		t.Errorf("took %v", d)
	}
	gone := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	gone.Close()
	_, err = a.layer.Dial(gone.Addr().String(), patience)
	wantHint(t, err)
	// Closing the layer ends a dial that waits.
	other := must(net.Listen("tcp", "127.0.0.1:0"))(t) // whether the first dial got to its listener nobody knows
	defer other.Close()
	ended := make(chan error)
	go func() {
		_, err := a.layer.Dial(other.Addr().String(), patience)
		ended <- err
	}()
	conn := must(other.Accept())(t)
	defer conn.Close()
	a.layer.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience / 2):
		t.Error("the dial goes on")
	}
	// Something else than an agent.
	web := http.Server{Handler: http.NotFoundHandler()}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	go web.Serve(l)
	defer web.Close()
	_, err = a.RaftLayer().Dial(l.Addr().String(), patience)
	if err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("%v", err)
	}
}

// A renewed certificate is used at once by a port that is open, in both
// directions, and connections that are open stay.
func TestHotSwap(t *testing.T) {
	c := newCluster(t, "blue")
	a, b := start(t, c.server("a"), nil), start(t, c.server("b"), nil)
	peers := echo(b.layer)
	old := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, old, "x")
	<-peers
	a2, b2 := c.server("a"), c.server("b")
	for p, id := range map[*port]*pki.Identity{a: a2, b: b2} {
		if err := p.SetIdentity(id); err != nil {
			t.Fatal(err)
		}
	}
	conn := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "y")
	if p := <-peers; p.Serial != a2.Peer().Serial {
		t.Error("b sees the old certificate of a")
	}
	if p, _ := transport.PeerOf(conn); p.Serial != b2.Peer().Serial {
		t.Error("a sees the old certificate of b")
	}
	said(t, old, "z")
	for _, id := range []*pki.Identity{c.server("b"), newCluster(t, "green").server("a")} {
		if err := a.SetIdentity(id); conf.CodeOf(err) != conf.CodeInvalid {
			t.Errorf("the port became another: %v", err)
		}
	}
}

// During a rotation both CAs are trusted; when the old one is dropped its
// connections go.
func TestRotationOfTheCA(t *testing.T) {
	c, next := newCluster(t, "blue"), newCluster(t, "blue")
	both := [][]byte{c.ca.Certificate().Raw, next.ca.Certificate().Raw}
	with := func(id *pki.Identity, cas ...[]byte) *pki.Identity {
		return must(pki.NewIdentity(id.Cert.Raw, id.Key, cas))(t)
	}
	a, b := start(t, with(c.server("a"), both...), nil), start(t, with(next.server("b"), both...), nil)
	fromA := echo(b.layer)
	conn := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "x")
	<-fromA
	only := must(b.Identity().WithCAs([]*x509.Certificate{next.ca.Certificate()}))(t)
	if err := b.SetIdentity(only); err != nil {
		t.Fatal(err)
	}
	closed(t, conn)
	if r := b.why(); r.Reason != transport.ReasonUntrusted {
		t.Errorf("%+v", r)
	}
	if _, err := a.layer.Dial(b.Addr(), patience); conf.CodeOf(err) != conf.CodeDenied {
		t.Errorf("%v", err)
	}
	if err := a.SetIdentity(with(next.server("a"), next.ca.Certificate().Raw)); err != nil {
		t.Fatal(err)
	}
	said(t, must(a.layer.Dial(b.Addr(), patience))(t), "y")
}

// Who is removed, or whose certificate ends, is cut off on both sides.
func TestRecheck(t *testing.T) {
	c := newCluster(t, "blue")
	var removed atomic.Bool
	var shift atomic.Int64
	change := func(o *transport.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
		o.CheckEvery = 10 * time.Millisecond
		o.Allowed = func(p pki.Peer) error {
			if removed.Load() && p.NodeID == "a" {
				return conf.Errorf(conf.CodeDenied, "removed yesterday")
			}
			return nil
		}
	}
	b := start(t, c.server("b"), change)
	a := start(t, c.server("a"), nil)
	echo(b.layer)
	conn := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "x")
	removed.Store(true)
	closed(t, conn)
	if r := b.why(); r.Reason != transport.ReasonRemoved || r.Peer.NodeID != "a" || r.Err == nil {
		t.Errorf("%+v", r)
	}
	_, err := a.layer.Dial(b.Addr(), patience)
	wantCode(t, err, conf.CodeDenied)
	if !strings.Contains(err.Error(), "no longer a member") || strings.Contains(err.Error(), "yesterday") {
		t.Errorf("%v", err)
	}
	if r := b.why(); r.Reason != transport.ReasonRemoved {
		t.Errorf("%+v", r)
	}
	removed.Store(false)
	conn = must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "y")
	shift.Store(int64(10 * 365 * 24 * time.Hour)) // b's clock goes astray, or ten years pass
	closed(t, conn)
	if r := b.why(); r.Reason != transport.ReasonExpired {
		t.Errorf("%+v", r)
	}
	_, err = a.layer.Dial(b.Addr(), patience)
	if conf.CodeOf(err) != conf.CodeDenied || !strings.Contains(conf.HintOf(err), "clock") {
		t.Errorf("%v, %s", err, conf.HintOf(err))
	}
	shift.Store(0)
	said(t, must(a.layer.Dial(b.Addr(), patience))(t), "z")
}

// A member that is removed between the check of its handshake and the moment in which its
// connection is known to Recheck is cut off too, on both sides.
func TestRemovedWhileItConnects(t *testing.T) {
	c := newCluster(t, "blue")
	removedBy := func(node string) func(o *transport.Options) {
		return func(o *transport.Options) {
			var asked atomic.Int64
			o.CheckEvery = time.Hour
			o.Allowed = func(p pki.Peer) error {
				if p.NodeID == node && asked.Add(1) > 1 {
					return conf.Errorf(conf.CodeDenied, "removed since")
				}
				return nil
			}
		}
	}
	b := start(t, c.server("b"), removedBy("a"))
	a := start(t, c.server("a"), nil)
	echo(b.layer)
	if _, err := a.layer.Dial(b.Addr(), patience); conf.CodeOf(err) != conf.CodeDenied {
		t.Errorf("the port took a member that was removed meanwhile: %v", err)
	}
	if r := b.why(); r.Reason != transport.ReasonRemoved || r.Peer.NodeID != "a" {
		t.Errorf("%+v", r)
	}
	d := start(t, c.server("d"), nil)
	echo(d.layer)
	e := start(t, c.server("e"), removedBy("d"))
	if _, err := e.layer.Dial(d.Addr(), patience); conf.CodeOf(err) != conf.CodeDenied || !strings.Contains(err.Error(), "is not a member") {
		t.Errorf("a connection to a member that was removed meanwhile is used: %v", err)
	}
}

func TestStopClosesAll(t *testing.T) {
	c := newCluster(t, "blue")
	entered, leave := make(chan struct{}), make(chan struct{})
	b := start(t, c.server("b"), func(o *transport.Options) {
		o.RPC = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-leave
			_, _ = io.WriteString(w, "done")
		})
	})
	a := start(t, c.server("a"), nil)
	echo(b.layer)
	conn := must(a.layer.Dial(b.Addr(), patience))(t)
	said(t, conn, "x")
	half := dialTCP(t, b.Addr())
	answers := make(chan string, 1)
	go func() {
		defer close(answers) // get may end this goroutine
		_, text := get(t, a.clientOf(b), "http://b/")
		answers <- text
	}()
	<-entered
	await(t, "the half-open connection is seen", func() bool { return b.Stats().Handshaking == 1 })
	stopped := make(chan error)
	go func() { stopped <- b.Stop(context.Background()) }()
	closed(t, conn)
	closed(t, half)
	close(leave) // what is being answered is answered
	if text := <-answers; text != "done" {
		t.Errorf("answer %q", text)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", b.Addr()); err == nil {
		t.Error("the port is still open")
	}
	if st := b.Stats(); st.Open != 0 || st.Handshaking != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := b.RaftLayer().Accept(); err == nil {
		t.Error("a layer of a stopped transport accepts")
	}
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	c := newCluster(t, "blue")
	entered := make(chan struct{})
	b := start(t, c.server("b"), func(o *transport.Options) {
		o.RPC = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})
	})
	a := start(t, c.server("a"), nil)
	failed := make(chan error, 1)
	go func() {
		resp, err := a.clientOf(b).Get("http://b/")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.Stop(ctx); err == nil {
		t.Error("Stop does not say that it cut a request off")
	}
	<-failed
}

// flaky is a listener that fails before it accepts, as one does that is out of
// file descriptors.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	c := newCluster(t, "blue")
	f := &flaky{Listener: must(net.Listen("tcp", "127.0.0.1:0"))(t)}
	f.fails.Store(3)
	b := start(t, c.server("b"), func(o *transport.Options) { o.Listener = f })
	echo(b.layer)
	said(t, must(start(t, c.server("a"), nil).layer.Dial(b.Addr(), patience))(t), "x")
}

// Who does not read what it asked for holds nothing for long.
func TestUnreadAnswers(t *testing.T) {
	c := newCluster(t, "blue")
	ended := make(chan error, 1)
	b := start(t, c.server("b"), func(o *transport.Options) {
		o.Limits.Write = 50 * time.Millisecond
		o.RPC = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			ended <- err
		})
	})
	a := start(t, c.server("a"), nil)
	resp := must(a.clientOf(b).Get("http://b/"))(t)
	defer resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the answer is written for ever")
	}
}

func TestOpenRefuses(t *testing.T) {
	c := newCluster(t, "blue")
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	_, err := transport.Open(transport.Options{Identity: c.server("a"), Listen: l.Addr().String()})
	wantCode(t, err, conf.CodeUsage)
	wantHint(t, err)
	for name, o := range map[string]transport.Options{
		"no identity":        {Listen: "127.0.0.1:0"},
		"no address":         {Identity: c.server("a")},
		"a made-up identity": {Identity: &pki.Identity{NodeID: "a"}, Listen: "127.0.0.1:0"},
	} {
		if _, err := transport.Open(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A port that is given, and never started.
	own := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	p := must(transport.Open(transport.Options{Identity: c.server("a"), Listener: own, Advertise: "db1:2771"}))(t)
	if p.Addr() != "db1:2771" {
		t.Errorf("advertises %s", p.Addr())
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	p.Start() // does nothing
}
