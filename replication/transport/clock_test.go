package transport_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Members whose certificates, and whose CA, are of a clock that was ahead reach each other
// when the clock is right.
func TestCertificatesThatBeginLater(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"a day": 24 * time.Hour, "91 days": 91 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			then := time.Now().Add(ahead)
			c := &cluster{t, "blue", must(pki.NewCA("blue", then))(t)}
			a := start(t, c.identityAt("a", pki.RoleServer, ttl, then), nil)
			b := start(t, c.identityAt("b", pki.RoleServer, ttl, then), nil)
			fresh := start(t, c.server("c"), nil) // made after the correction, by the same CA
			for _, p := range []*port{a, b, fresh} {
				echo(p.layer)
			}
			for _, pair := range [][2]*port{{a, b}, {b, fresh}, {fresh, a}} {
				said(t, must(pair[0].layer.Dial(pair[1].Addr(), patience))(t), "x")
			}
		})
	}
}

// A clock that is ahead now finds the others' certificates over: the error says by which
// clock, and the other side hears nothing that it would act on.
func TestExpiredNamesClockAndEnd(t *testing.T) {
	c := newCluster(t, "blue")
	b := start(t, c.server("b"), nil)
	ahead := time.Now().Add(30 * 24 * time.Hour)
	a := start(t, c.identityAt("a", pki.RoleServer, ttl, ahead), func(o *transport.Options) { o.Now = func() time.Time { return ahead } })
	_, err := a.layer.Dial(b.Addr(), patience)
	wantCode(t, err, conf.CodeDenied)
	for _, text := range []string{"node b", conf.FormatTime(b.Identity().Cert.NotAfter), conf.FormatTime(ahead)} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
	if !strings.Contains(conf.HintOf(err), "clock") {
		t.Errorf("hint %q", conf.HintOf(err))
	}
	_, err = b.layer.Dial(a.Addr(), patience) // a finds b's over, and b only hears that it is not trusted
	wantCode(t, err, conf.CodeDenied)
	if hint := conf.HintOf(err); !strings.Contains(hint, conf.FormatTime(b.Identity().Cert.NotAfter)) {
		t.Errorf("hint %q of %v", hint, err)
	}
}
