package pki_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// A certificate that a clock made which was ahead is renewed when the clock is right, by a
// CA that is of the same time; a member that holds it is not cut off before that.
func TestCertificateOfAClockThatWasAhead(t *testing.T) {
	now := time.Now()
	for name, ahead := range map[string]time.Duration{"a day": 24 * time.Hour, "91 days": 91 * 24 * time.Hour, "ten years": 3653 * 24 * time.Hour} {
		id := must(pki.Bootstrap("blue", "n1", pki.DefaultTTL, now.Add(ahead)))(t)
		if id.Expired(now) || id.NotYetValid(now) != (ahead > 48*time.Hour) || id.NeedsRenewal(now) != id.NotYetValid(now) {
			t.Errorf("%s: expired %v, not yet valid %v, to renew %v", name, id.Expired(now), id.NotYetValid(now), id.NeedsRenewal(now))
		}
		fresh := must(id.Redate(pki.DefaultTTL, now))(t)
		if fresh.NotYetValid(now) || fresh.NeedsRenewal(now) || fresh.Expired(id.Cert.NotAfter.Add(-time.Hour)) {
			t.Errorf("%s: renewed, it is valid from %v to %v", name, fresh.Cert.NotBefore, fresh.Cert.NotAfter)
		}
		csr := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
		joined := must(id.CA.Issue(csr, "n2", pki.RoleServer, pki.DefaultTTL, now))(t)
		if joined.NotBefore.After(now) || joined.NotAfter.Before(now.Add(pki.DefaultTTL-time.Hour)) {
			t.Errorf("%s: a member that joins is valid from %v to %v", name, joined.NotBefore, joined.NotAfter)
		}
	}
}

func TestCheckEndNamesClockAndEnd(t *testing.T) {
	now := time.Now()
	id := must(pki.Bootstrap("blue", "n1", ttl, now))(t)
	if err := pki.CheckEnd(id.Cert, now); err != nil {
		t.Error(err)
	}
	later := now.Add(2 * ttl)
	err := pki.CheckEnd(id.Cert, later)
	wantCode(t, err, conf.CodeDenied)
	wantHint(t, err)
	for _, text := range []string{"node n1", conf.FormatTime(id.Cert.NotAfter), conf.FormatTime(later)} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
}
