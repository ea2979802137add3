package updates_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// versioned is a message whose version is signed, at a time after the cluster's begin.
func (c *cluster) versioned(config string, version uint64, at time.Duration) updates.Message {
	c.t.Helper()
	m := message(c.sign("router", config, epochA, at/time.Second), version)
	m.VersionSignature = c.signer.SignVersion("router", epochA, version, seal.Checksum([]byte(config)))
	return m
}

const (
	ok   = updates.Reason("")
	hour = time.Hour
)

type offer struct {
	what    string
	m       updates.Message
	reason  updates.Reason
	version uint64 // that is held then
	proven  time.Duration
}

func (c *cluster) offers(r *updates.Receiver, held uint64, list []offer) {
	c.t.Helper()
	for _, o := range list {
		v := r.Receive(o.m)
		if v.Reason != o.reason {
			c.t.Errorf("%s: reason %q (%v), want %q", o.what, v.Reason, v.Err, o.reason)
		}
		if v.Record != nil {
			held = v.Record.Version
		}
		if at := r.Proven(); held != o.version || !at.Equal(c.begin.Add(o.proven)) {
			c.t.Errorf("%s: version %d of %s is held, want %d of %s", o.what, held, at, o.version, c.begin.Add(o.proven))
		}
	}
}

// A leader was hours ahead, and is right again. Receivers that are right, and those that
// were ahead with it, follow; no message of before or of the time ahead comes back.
func TestClockOfTheLeaderIsCorrected(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	now := func(at time.Duration) func() time.Time { return func() time.Time { return c.begin.Add(at) } }
	plain := func(m updates.Message) updates.Message { m.VersionSignature = ""; return m }
	before, early := c.versioned(one, 1, 0), c.versioned(two, 2, time.Minute)
	ahead, aheadAgain := c.versioned(one, 3, 5*hour), c.versioned(one, 3, 5*hour+4*time.Minute)
	back, next := c.versioned(one, 3, 10*time.Minute), c.versioned(two, 4, 11*time.Minute)

	clock := now(10 * time.Minute)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}, Now: func() time.Time { return clock() }})
	c.offers(r, 0, []offer{
		{"the first", before, ok, 1, 0},
		{"the second", early, ok, 2, time.Minute},
		{"of the clock that is ahead, without its version", plain(ahead), updates.ReasonFuture, 2, time.Minute},
		{"of the clock that is ahead: the version is newer", ahead, ok, 3, 5 * hour},
		{"signed again", aheadAgain, ok, 3, 5*hour + 4*time.Minute},
		{"an older version", early, updates.ReasonOlder, 2 + 1, 5*hour + 4*time.Minute},
		{"an older document, the version of which is not signed", plain(early), updates.ReasonOlder, 3, 5*hour + 4*time.Minute},
		{"the way back", back, ok, 3, 10 * time.Minute},
		{"that of ahead again", aheadAgain, updates.ReasonFuture, 3, 10 * time.Minute},
		{"an older time of the same version", c.versioned(one, 3, 9*time.Minute), updates.ReasonOlder, 3, 10 * time.Minute},
		{"a later version", next, ok, 4, 11 * time.Minute},
		{"the same document by the wrong version", c.versioned(two, 2, 12*time.Minute), updates.ReasonOlder, 4, 11 * time.Minute},
		{"another document under the version", c.versioned(one, 4, 13*time.Minute), updates.ReasonOlder, 4, 11 * time.Minute},
	})
	clock = now(5*hour + 5*time.Minute) // the time of then has come
	lie := ahead
	lie.Version = 9
	c.offers(r, 4, []offer{
		{"that of ahead, when its time has come", aheadAgain, updates.ReasonOlder, 4, 11 * time.Minute},
		{"and without its version", plain(aheadAgain), updates.ReasonOlder, 4, 11 * time.Minute},
		{"and with another version", lie, updates.ReasonOlder, 4, 11 * time.Minute},
		{"signed again", c.versioned(two, 4, 5*hour), ok, 4, 5 * hour},
	})
	if v := r.Receive(plain(message(c.sign("router", two, epochA, 5*3600+60), 7))); v.Err != nil || v.Record == nil || v.Record.Version != 4 || v.Record.VersionSignature == "" {
		t.Errorf("signed again, through a broker without user properties: %+v", v)
	}

	// One that starts with a file of the time ahead.
	held := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}, Now: now(6 * hour)}).Receive(ahead).Record
	r = receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}, Now: now(12 * time.Minute), Epoch: epochA, Records: recordsOf(held)})
	c.offers(r, 3, []offer{{"the next version", next, ok, 4, 11 * time.Minute}})
	// And one whose file has no signed version, of an older build.
	unsigned := *held
	unsigned.VersionSignature = ""
	r = receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}, Now: now(12 * time.Minute), Epoch: epochA, Records: recordsOf(&unsigned)})
	c.offers(r, 3, []offer{
		{"an older version", early, updates.ReasonOlder, 3, 5 * hour},
		{"the way back", back, ok, 3, 10 * time.Minute},
		{"the next version", next, ok, 4, 11 * time.Minute},
	})
}

// The age is the difference of two clocks; it grows by the monotonic one, whatever they say.
func TestAgeOfWhatIsHeld(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	behind := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}, Now: func() time.Time { return c.begin.Add(-hour) }})
	if age := behind.Age(); age >= 0 {
		t.Errorf("age %v of nothing", age)
	}
	if v := behind.Receive(c.versioned(one, 1, 0)); v.Err != nil {
		t.Fatal(v.Err)
	}
	first := behind.Age()
	behind.Receive(c.versioned(one, 1, 0)) // the same again is nothing new
	base.AwaitWithin(t, base.Patience, "the age to grow", func() bool { return behind.Age() >= first+20*time.Millisecond })
	if age := behind.Age(); age > hour {
		t.Errorf("age %v", age)
	}
	if ahead := behind.Ahead(); ahead < 50*time.Minute {
		t.Errorf("the leader's clock is %v ahead of one that is an hour behind", ahead)
	}
}
