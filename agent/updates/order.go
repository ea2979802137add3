package updates

import (
	"crypto/ed25519"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// withProvenVersion returns m without a version signature that no trusted key made for it.
func withProvenVersion(m Message, u conf.Update, trust []ed25519.PublicKey) Message {
	for _, k := range trust {
		if m.VersionSignature != "" && seal.VerifyVersion(k, u.Service, u.Epoch, m.Version, u.Checksum, m.VersionSignature) {
			return m
		}
	}
	m.VersionSignature = ""
	return m
}

// order compares u with the current record of its epoch. The version decides if it is
// signed: time is a claim of the leader's clock, which may have been wrong. Of one version
// the latest time is kept that is not ahead of this clock. What an attacker can replay
// there is an older time of the same document.
//
// A version that is not signed orders nothing. Then the time does, as long as none of the
// service was signed.
func (r *Receiver) order(m Message, u conf.Update, at time.Time, have *conf.Record) *rejection {
	held, err := conf.ParseTime(have.IssuedAt)
	if err != nil {
		return nil
	}
	signed, wasSigned := m.VersionSignature != "", have.VersionSignature != ""
	switch {
	case at.Equal(held) && u.Signature == have.Signature && (!signed || !wasSigned || m.Version == have.Version):
		return nil // the same
	case signed && wasSigned && m.Version > have.Version:
		return nil
	case signed && wasSigned && m.Version < have.Version:
		return reject(ReasonOlder, conf.CodeStale, "the update of %q is version %d, and version %d is held", u.Service, m.Version, have.Version)
	case signed && !wasSigned && r.isAhead(held) && m.Version > have.Version:
		return nil // what is held is of a clock that was ahead
	case wasSigned && u.Checksum != have.Checksum:
		return &rejection{ReasonOlder, conf.Errorf(conf.CodeStale, "the update of %q has another document than version %d, which is held, and no later version that is signed", u.Service, have.Version).
			WithHint("with MQTT 3.1.1 versions are not signed: use a broker that speaks MQTT 5, or give the observer a member: --member")}
	case at.After(held) && wasSigned && r.isAhead(at) && !r.isAhead(held):
		return future(u) // the document is held already, with a better time
	case at.After(held):
		return nil
	case signed && r.isAhead(held) && u.Checksum == have.Checksum && m.Version >= have.Version:
		return nil // the way back to the right time
	}
	return reject(ReasonOlder, conf.CodeStale, "the update of %q was issued at %s, and one of %s is held", u.Service, u.IssuedAt, have.IssuedAt)
}

func (r *Receiver) isAhead(at time.Time) bool { return at.After(r.now().Add(MaxAhead)) }

func future(u conf.Update) *rejection {
	return &rejection{ReasonFuture, conf.Errorf(conf.CodeDenied, "the update of %q is dated %s, ahead of this clock", u.Service, u.IssuedAt).
		WithHint("compare the clocks of this machine and of the leader")}
}

// Proven returns when the leader last signed the current records: the oldest time of the
// existing services, so that it is true for all of them. It is zero without records.
func (r *Receiver) Proven() time.Time {
	at, _ := r.proven()
	return at
}

// Age returns the time since the leader last signed the current records, negative without
// records. It is the difference of two clocks, and so never below the monotonic time since
// one of the records, or its time, became newer here.
func (r *Receiver) Age() time.Duration {
	at, advanced := r.proven()
	if at.IsZero() {
		return -1
	}
	return max(r.now().Round(0).Sub(at), time.Since(advanced))
}

// Ahead returns by how much the newest signature is ahead of this clock, or 0.
func (r *Receiver) Ahead() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var most time.Duration
	for _, rec := range r.current {
		if at, err := conf.ParseTime(rec.IssuedAt); err == nil && rec.Exists() {
			most = max(most, at.Sub(r.now()))
		}
	}
	return most
}

// proven returns the oldest time of the current records, and the oldest monotonic time at
// which one of them became newer.
func (r *Receiver) proven() (oldest, advanced time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for service, rec := range r.current {
		at, err := conf.ParseTime(rec.IssuedAt)
		if !rec.Exists() || err != nil {
			continue
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
		since, ok := r.advanced[service]
		if !ok {
			since = r.started // it is from the file
		}
		if advanced.IsZero() || since.Before(advanced) {
			advanced = since
		}
	}
	return oldest, advanced
}
