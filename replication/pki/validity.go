package pki

import (
	"crypto/x509"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// backdate is how far before the time of its making a certificate begins. Members of this
// build ignore the begin; those that do not are served by certificates that a clock made
// which was a day and a time zone ahead.
const backdate = 48 * time.Hour

// Unbegun returns c as a verifier is to see it: valid from the beginning of time. When a
// certificate begins protects nothing: only the key of the CA makes certificates, and
// none is made for later. A begin in the future is the work of a clock that was ahead,
// and would exclude the member until that time. The end counts.
func Unbegun(c *x509.Certificate) *x509.Certificate {
	out := *c
	out.NotBefore = time.Time{}
	return &out
}

// NotYetValid reports whether a clock that was ahead made the certificate.
func (id *Identity) NotYetValid(now time.Time) bool { return now.Before(id.Cert.NotBefore) }

// NeedsRenewal reports whether two thirds of the certificate's lifetime are over, or it
// was made by a clock that was ahead.
func (id *Identity) NeedsRenewal(now time.Time) bool {
	life := id.Cert.NotAfter.Sub(id.Cert.NotBefore)
	if life > backdate {
		life -= backdate
	}
	return id.NotYetValid(now) || !now.Before(id.Cert.NotAfter.Add(-life/3))
}

// Redate is Reissue for a certificate that this clock has not reached yet. The end stays
// if it is later than that of a new one: if it is this clock that is behind, a certificate
// that ends by it would be over for all other members.
func (id *Identity) Redate(ttl time.Duration, now time.Time) (*Identity, error) {
	return id.Reissue(max(ttl, id.Cert.NotAfter.Sub(now)), now)
}

// Expired reports whether the certificate is expired at that time.
func (id *Identity) Expired(now time.Time) bool { return now.After(id.Cert.NotAfter) }

// CheckEnd returns an error that names the clock and the end of c if it is over.
func CheckEnd(c *x509.Certificate, now time.Time) error {
	if !now.After(c.NotAfter) {
		return nil
	}
	of := "the CA of the cluster"
	if !c.IsCA {
		of = "a member"
		if _, p, err := NodeOf(c); err == nil {
			of = "node " + p.NodeID
		}
	}
	return conf.Errorf(conf.CodeDenied, "the certificate of %s ended at %s, and the clock of this machine says %s",
		of, conf.FormatTime(c.NotAfter), conf.FormatTime(now)).
		WithHint("if this clock is wrong, set it; else start that agent again: a server renews its certificate, a sidecar must join again")
}

// validity returns the time in which a certificate of ca that is made now is valid.
func (ca *CA) validity(ttl time.Duration, now time.Time) (from, to time.Time, err error) {
	from, to = now.Add(-backdate), now.Add(ttl)
	// A CA that begins later was made by a clock that was ahead.
	if begin := ca.cert.NotBefore; from.Before(begin) && begin.Before(now) {
		from = begin
	}
	if to.After(ca.cert.NotAfter) {
		to = ca.cert.NotAfter
	}
	if ttl <= 0 || !to.After(now) {
		return from, to, conf.Errorf(conf.CodeInvalid, "the cluster's CA is valid until %s, and the clock of this machine says %s",
			conf.FormatTime(ca.cert.NotAfter), conf.FormatTime(now)).
			WithHint("if this clock is wrong, set it; else replace the CA: holdfast keys rotate ca")
	}
	return from, to, nil
}
