package updates_test

import (
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	epochA = "aaaaaaaa-e29b-41d4-a716-446655440000"
	epochB = "bbbbbbbb-e29b-41d4-a716-446655440000"
	epochC = "cccccccc-e29b-41d4-a716-446655440000"
	one    = `{"a":1,"b":0.5}`
	two    = `{"a":2,"b":0.5,"u":"größe 😀"}`
)

// cluster signs; its times are seconds after begin.
type cluster struct {
	t      testing.TB
	public ed25519.PublicKey
	signer *seal.Signer
	begin  time.Time
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, public: public, signer: seal.NewSigner(private), begin: time.Now().Add(-time.Hour).Truncate(time.Second)}
}

func (c *cluster) sign(service, config, epoch string, at time.Duration) string {
	c.t.Helper()
	data, err := seal.EncodeUpdate(c.signer.Sign(service, []byte(config), epoch, c.begin.Add(at*time.Second)))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func (c *cluster) change(from, to string, at time.Duration) conf.EpochChange {
	return c.signer.SignEpoch(from, to, c.begin.Add(at*time.Second))
}

func changes(t testing.TB, list ...conf.EpochChange) []byte {
	t.Helper()
	data, err := seal.EncodeEpochs(list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func receiver(t testing.TB, o updates.Options) *updates.Receiver {
	t.Helper()
	if o.Services == nil {
		o.Services = []string{"router"}
	}
	r, err := updates.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func message(payload string, version uint64) updates.Message {
	return updates.Message{Service: "router", Payload: []byte(payload), Version: version}
}

// accepts offers a message that has to be taken as the newest.
func accepts(t testing.TB, r *updates.Receiver, payload string, version, want uint64) *conf.Record {
	t.Helper()
	v := r.Receive(message(payload, version))
	if v.Record == nil || v.Confirmed != "router" || v.Record.Version != want {
		t.Fatalf("%s with version %d: %+v, record %+v", payload, version, v, v.Record)
	}
	return v.Record
}

func refused(t testing.TB, r *updates.Receiver, payload string, version uint64, want updates.Reason) error {
	t.Helper()
	_, before := r.Stats()
	v := r.Receive(message(payload, version))
	_, after := r.Stats()
	if v.Reason != want || v.Err == nil || v.Record != nil || v.Confirmed != "" || after[want] != before[want]+1 {
		t.Fatalf("%s: %+v, want %s; counted %d", payload, v, want, after[want]-before[want])
	}
	return v.Err
}

func changed(t testing.TB, from string, pairs ...string) string {
	t.Helper()
	out := strings.NewReplacer(pairs...).Replace(from)
	if out == from {
		t.Fatalf("%q changes nothing in %s", pairs, from)
	}
	return out
}

// TestForgeries holds every way to lie against a receiver that has something.
func TestForgeries(t *testing.T) {
	t.Parallel()
	c, foreign := newCluster(t), newCluster(t)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}})
	accepts(t, r, c.sign("router", one, epochA, 10), 1, 1)
	good := c.sign("router", two, epochA, 20) // newer than all that is accepted until the end
	old := c.sign("router", two, epochA, 5)
	head, _, _ := strings.Cut(good, `,"signature":"`)
	_, tail, _ := strings.Cut(old, `,"signature":"`)
	sum, sum3 := seal.Checksum([]byte(two)), seal.Checksum([]byte(changed(t, two, `"a":2`, `"a":3`)))
	for _, f := range []struct {
		what, payload string
		reason        updates.Reason
	}{
		{"signed by another key", foreign.sign("router", two, epochA, 20), updates.ReasonSignature},
		{"with the signature of another message", head + `,"signature":"` + tail, updates.ReasonSignature},
		{"with another value", changed(t, good, `"a":2`, `"a":3`), updates.ReasonChecksum},
		{"with another value and its checksum", changed(t, good, `"a":2`, `"a":3`, sum, sum3), updates.ReasonSignature},
		{"of another service", c.sign("other", two, epochA, 20), updates.ReasonService},
		{"of another service, renamed", changed(t, c.sign("other", two, epochA, 20), `"other"`, `"router"`), updates.ReasonSignature},
		{"of another epoch", c.sign("router", two, epochB, 20), updates.ReasonEpoch},
		{"of another epoch, renamed", changed(t, c.sign("router", two, epochB, 20), epochB, epochA), updates.ReasonSignature},
		{"older", old, updates.ReasonOlder},
		{"of the same time", c.sign("router", two, epochA, 10), updates.ReasonOlder},
		{"from the future", c.sign("router", two, epochA, 3600+600), updates.ReasonFuture},
		{"in another format", changed(t, good, `"version":1`, `"version":2`), updates.ReasonMalformed},
		{"with spaces", changed(t, good, `":`, `": `), updates.ReasonReserialised},
		{"with spaces within", changed(t, good, `"a":2,`, `"a":2, `), updates.ReasonReserialised},
		{"in another order", changed(t, good, `"a":2,"b":0.5`, `"b":0.5,"a":2`), updates.ReasonReserialised},
		{"with another number", changed(t, good, "0.5", "0.50"), updates.ReasonReserialised},
		{"with escapes", changed(t, good, "😀", `\ud83d\ude00`), updates.ReasonReserialised},
		{"with the members in another order", changed(t, good, `"version":1,"service":"router"`, `"service":"router","version":1`), updates.ReasonReserialised},
		{"truncated", good[:len(good)-30], updates.ReasonMalformed},
		{"with more behind it", good + "}", updates.ReasonMalformed},
		{"with a line behind it", good + "\n", updates.ReasonReserialised},
		{"unsigned", head + "}", updates.ReasonUnsigned},
		{"with an empty signature", head + `,"signature":""}`, updates.ReasonUnsigned},
		{"with no real signature", head + `,"signature":"AAAA"}`, updates.ReasonMalformed},
		{"with two configs", changed(t, good, `"config":{`, `"config":{"evil":true},"config":{`), updates.ReasonMalformed},
		{"with one member more", changed(t, good, `"version":1`, `"more":1,"version":1`), updates.ReasonMalformed},
		{"no text", "\xff\xfe{\x01", updates.ReasonMalformed},
		{"nothing", "", updates.ReasonMalformed},
		{"too large", `{"x":"` + strings.Repeat("x", seal.MaxUpdate) + `"}`, updates.ReasonTooLarge},
	} {
		t.Run(f.what, func(t *testing.T) { refused(t, r, f.payload, 2, f.reason) })
	}
	if v := r.Receive(updates.Message{Service: "other", Payload: []byte(c.sign("other", two, epochA, 20))}); v.Reason != updates.ReasonService {
		t.Errorf("a service that nobody asked for: %+v", v)
	}
	accepts(t, r, good, 2, 2)
}

var mutations = flag.Int("mutations", 5_000, "how many messages TestMutations changes")

// TestMutations changes bytes of a good message, newer than what is held, at random.
func TestMutations(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}})
	accepts(t, r, c.sign("router", one, epochA, 10), 1, 1)
	good := []byte(c.sign("router", two, epochA, 20))
	random := rand.New(rand.NewPCG(1, 2))
	for range *mutations {
		bad := slices.Clone(good)
		for range 1 + random.IntN(3) {
			switch i := random.IntN(len(bad)); random.IntN(4) {
			case 0:
				bad = slices.Delete(bad, i, i+1)
			case 1:
				bad = slices.Insert(bad, i, byte(random.IntN(256)))
			case 2:
				bad[i] ^= 1 << random.IntN(8)
			case 3:
				bad[i] = good[random.IntN(len(good))]
			}
		}
		if string(bad) == string(good) {
			continue
		}
		if v := r.Receive(message(string(bad), 2)); v.Err == nil {
			t.Fatalf("accepted: %q", bad)
		}
	}
	accepts(t, r, string(good), 2, 2)
}

// TestOrder: what is signed orders; the version, which is not, never goes back and
// shuts nothing out.
func TestOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}})
	accepts(t, r, c.sign("router", one, epochA, 10), 7, 7)
	if v := r.Receive(message(c.sign("router", one, epochA, 10), 7)); v.Record != nil || v.Confirmed != "router" || v.Err != nil {
		t.Errorf("the same again: %+v", v)
	}
	if rec := accepts(t, r, c.sign("router", one, epochA, 11), 7, 7); rec.UpdatedAt == rec.IssuedAt {
		t.Errorf("signed anew, it says that it was changed at %s", rec.UpdatedAt)
	}
	if v := r.Receive(message(c.sign("router", two, epochA, 12), 9)); !v.Gap || v.Record.Version != 9 {
		t.Errorf("a version was jumped over: %+v", v)
	}
	// Without a version, as in MQTT 3.1.1, it is counted here.
	accepts(t, r, c.sign("router", one, epochA, 13), 0, 10)
	accepts(t, r, c.sign("router", one, epochA, 14), 0, 10)
	// A broker that lies about it.
	accepts(t, r, c.sign("router", two, epochA, 15), 1<<40, 1<<40)
	v := r.Receive(message(c.sign("router", one, epochA, 16), 12))
	if v.Record == nil || v.Record.Version != 1<<40+1 || v.Reason != updates.ReasonVersion || !v.Gap || v.Err != nil {
		t.Errorf("after a lie: %+v", v)
	}
	refused(t, r, c.sign("router", two, epochA, 15), 1<<50, updates.ReasonOlder)
	if at := r.Proven(); !at.Equal(c.begin.Add(16 * time.Second)) {
		t.Errorf("proven at %s", at)
	}
}

func TestEpochs(t *testing.T) {
	t.Parallel()
	c, foreign := newCluster(t), newCluster(t)
	trust := []ed25519.PublicKey{foreign.public, c.public}[1:]
	in := func(epoch string, at time.Duration) string { return c.sign("router", two, epoch, at) }
	t.Run("proven before and after", func(t *testing.T) {
		r := receiver(t, updates.Options{Trust: trust})
		accepts(t, r, in(epochA, 10), 4, 4)
		err := refused(t, r, in(epochB, 20), 1, updates.ReasonEpoch)
		if hint := conf.HintOf(err); !strings.Contains(hint, "--accept-epoch "+epochB) {
			t.Errorf("the way out is %q", hint)
		}
		out := r.ReceiveEpochChanges(changes(t, c.change(epochA, epochB, 19)))
		if len(out) != 1 || out[0].Record == nil || out[0].Record.Epoch != epochB || out[0].Record.Version != 1 {
			t.Fatalf("with the proof: %+v", out)
		}
		// The other way round, and never back.
		if out := r.ReceiveEpochChanges(changes(t, c.change(epochA, epochB, 19), c.change(epochB, epochC, 29))); len(out) != 0 {
			t.Fatalf("a proof alone: %+v", out)
		}
		accepts(t, r, in(epochC, 30), 1, 1)
		for _, epoch := range []string{epochA, epochB} {
			refused(t, r, in(epoch, 40), 9, updates.ReasonEpoch)
		}
		if past := r.Past(); !slices.Equal(past, []string{epochA, epochB}) {
			t.Errorf("past %v", past)
		}
		// A signed word that leads back does not lead there either.
		r.ReceiveEpochChanges(changes(t, c.change(epochC, epochA, 50)))
		refused(t, r, in(epochA, 60), 9, updates.ReasonEpoch)
	})
	t.Run("two changes were missed", func(t *testing.T) {
		r := receiver(t, updates.Options{Trust: trust})
		accepts(t, r, in(epochA, 10), 4, 4)
		r.ReceiveEpochChanges(changes(t, c.change(epochA, epochB, 19), c.change(epochB, epochC, 29)))
		accepts(t, r, in(epochC, 30), 1, 1)
	})
	t.Run("forged proofs", func(t *testing.T) {
		r := receiver(t, updates.Options{Trust: trust})
		accepts(t, r, in(epochA, 10), 4, 4)
		for what, bad := range map[string][]byte{
			"another key":     changes(t, foreign.change(epochA, epochB, 19)),
			"from elsewhere":  changes(t, c.change(epochC, epochB, 19)),
			"from the future": changes(t, c.change(epochA, epochB, 3600+600)),
			"no proof":        changes(t, conf.EpochChange{Previous: epochA, Epoch: epochB, At: conf.FormatTime(c.begin)}),
			"no message":      []byte("{}"),
			"too large":       []byte(`{"version":1,"changes":[],"x":"` + strings.Repeat("x", seal.MaxEpochs) + `"}`),
		} {
			for _, v := range r.ReceiveEpochChanges(bad) {
				if v.Record != nil {
					t.Fatalf("%s: %+v", what, v)
				}
			}
			refused(t, r, in(epochB, 20), 5, updates.ReasonEpoch)
		}
	})
	t.Run("the operator says so", func(t *testing.T) {
		r := receiver(t, updates.Options{Trust: trust, Epoch: epochA, Accept: epochB})
		accepts(t, r, in(epochB, 20), 1, 1)
		refused(t, r, in(epochA, 30), 9, updates.ReasonEpoch)
		// The setting is still there after the next change, and after a restart.
		r = receiver(t, updates.Options{Trust: trust, Epoch: epochC, Past: []string{epochA, epochB}, Accept: epochB})
		refused(t, r, in(epochB, 40), 9, updates.ReasonEpoch)
	})
	t.Run("named at the first start", func(t *testing.T) {
		r := receiver(t, updates.Options{Trust: trust, Accept: epochB})
		refused(t, r, in(epochA, 20), 1, updates.ReasonEpoch)
		r.ReceiveEpochChanges(changes(t, c.change(epochB, epochC, 29)))
		accepts(t, r, in(epochC, 30), 1, 1)
	})
}

// TestRestart makes a receiver of what the one before had.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	trust := []ed25519.PublicKey{c.public}
	r := receiver(t, updates.Options{Trust: trust})
	rec := accepts(t, r, c.sign("router", two, epochA, 20), 3, 3)
	r = receiver(t, updates.Options{Trust: trust, Epoch: epochA, Records: []*conf.Record{rec}})
	refused(t, r, c.sign("router", one, epochA, 19), 9, updates.ReasonOlder)
	refused(t, r, c.sign("router", one, epochB, 29), 9, updates.ReasonEpoch)
	if v := r.Receive(message(c.sign("router", two, epochA, 20), 3)); v.Confirmed != "router" || v.Record != nil {
		t.Errorf("the one that it had: %+v", v)
	}
	accepts(t, r, c.sign("router", one, epochA, 21), 4, 4)
}

// TestMembersAnswer: a document over HTTP is proven like a message.
func TestMembersAnswer(t *testing.T) {
	t.Parallel()
	c, next := newCluster(t), newCluster(t)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public, next.public}}) // while keys are rotated
	answer := func(by *cluster, config string, at time.Duration, version uint64) conf.ReadResponse {
		u := by.signer.Sign("router", []byte(config), epochA, by.begin.Add(at*time.Second))
		return conf.ReadResponse{Service: "router", Config: json.RawMessage(config), Metadata: conf.Metadata{
			Version: version, Epoch: u.Epoch, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature,
		}}
	}
	first := answer(c, two, 10, 5)
	first.Config = json.RawMessage(" {\"u\": \"gr\\u00f6\\u00dfe 😀\", \"b\":0.50,\"a\":2}")
	v := r.ReceiveDocument("router", first)
	if v.Record == nil || string(v.Record.Config) != two || v.Record.Version != 5 || v.Record.KeyID != seal.KeyID(c.public) {
		t.Fatalf("%+v", v)
	}
	if v := r.ReceiveDocument("router", answer(next, one, 11, 6)); v.Record == nil || v.Record.KeyID != seal.KeyID(next.public) {
		t.Errorf("by the next key: %+v", v)
	}
	unsigned, wrong := answer(c, two, 12, 7), answer(c, two, 12, 7)
	unsigned.Metadata.Signature = ""
	wrong.Config = json.RawMessage(one)
	for reason, d := range map[updates.Reason]conf.ReadResponse{
		updates.ReasonUnsigned: unsigned, updates.ReasonChecksum: wrong, updates.ReasonOlder: answer(c, two, 10, 7),
		updates.ReasonSignature: answer(newCluster(t), two, 12, 7),
	} {
		if v := r.ReceiveDocument("router", d); v.Reason != reason || v.Record != nil {
			t.Errorf("%s: %+v", reason, v)
		}
	}
}

// TestHugeVersions: a number at the end of all numbers, which nobody signed, keeps no
// later update from being one: versions go on growing, and fit into a file.
func TestHugeVersions(t *testing.T) {
	t.Parallel()
	for _, huge := range []uint64{1 << 53, 1<<53 - 1, math.MaxUint64} {
		c := newCluster(t)
		r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}})
		accepts(t, r, c.sign("router", one, epochA, 1), 7, 7)
		u := c.signer.Sign("router", []byte(two), epochA, c.begin.Add(2*time.Second))
		v := r.ReceiveDocument("router", conf.ReadResponse{Service: "router", Config: json.RawMessage(two), Metadata: conf.Metadata{
			Version: huge, Epoch: u.Epoch, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature,
		}})
		if v.Record == nil || v.Record.Version != 8 || v.Reason != updates.ReasonVersion || !v.Gap {
			t.Fatalf("version %d: %+v, record %+v", huge, v, v.Record)
		}
		accepts(t, r, c.sign("router", one, epochA, 3), huge, 9)
		accepts(t, r, c.sign("router", two, epochA, 4), 10, 10)
	}
}

// TestDeleted: a document without members is a deletion only when the sender says so.
func TestDeleted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := receiver(t, updates.Options{Trust: []ed25519.PublicKey{c.public}})
	offer := func(config string, at time.Duration, deleted bool) *conf.Record {
		v := r.Receive(updates.Message{Service: "router", Payload: []byte(c.sign("router", config, epochA, at)), Deleted: deleted})
		if v.Record == nil {
			t.Fatalf("%+v", v)
		}
		return v.Record
	}
	if rec := offer("{}", 1, false); rec.Deleted || !rec.Exists() {
		t.Error("an empty document does not exist")
	}
	if rec := offer("{}", 2, true); !rec.Deleted || rec.Version != 2 {
		t.Errorf("a deletion: %+v", rec)
	}
	if rec := offer(one, 3, true); rec.Deleted {
		t.Error("a document with members is deleted by an unsigned word")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := updates.New(updates.Options{Services: []string{"a"}}); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
		t.Errorf("without a key: %v", err)
	}
	if _, err := updates.New(updates.Options{Services: []string{"A B"}, Trust: []ed25519.PublicKey{newCluster(t).public}}); err == nil {
		t.Error("a bad name of a service is accepted")
	}
}

func BenchmarkOffer(b *testing.B) {
	c := newCluster(b)
	r := receiver(b, updates.Options{Trust: []ed25519.PublicKey{c.public}})
	config := fmt.Sprintf(`{"text":%q}`, strings.Repeat("x", 1000))
	payloads := make([]string, 1000)
	for i := range payloads {
		payloads[i] = c.sign("router", config, epochA, time.Duration(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Receive(message(payloads[i%len(payloads)], 0))
	}
}

func recordsOf(list ...*conf.Record) []*conf.Record { return list }
