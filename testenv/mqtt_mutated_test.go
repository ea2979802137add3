package testenv

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/holdfast-config/holdfast/agent/updates"
	hfclient "github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// forger makes messages that no receiver may accept out of those that it may. The
// same seed makes the same messages.
type forger struct {
	rng     *rand.Rand
	foreign ed25519.PrivateKey
	leader  *seal.Signer
	good    [][]byte // newest first is of no matter; all of one service, epoch and key
	signed  [][]byte // signed by the leader, and still not to be accepted: older, of others, of the future
}

const forgedEpoch = "550e8400-e29b-41d4-a716-446655440000"

// What a receiver holds, and from which version on it takes another document.
const (
	heldVersion = 8
	heldConfig  = `{"a":10}`
)

// newForger signs what a leader would have. begin is the time of what a receiver
// holds; good messages are later.
func newForger(t *testing.T, key ed25519.PrivateKey, seed uint64, begin time.Time) *forger {
	t.Helper()
	f := &forger{rng: rand.New(rand.NewPCG(seed, seed)), leader: seal.NewSigner(key), foreign: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))}
	sign := func(service, epoch, config string, at time.Time) []byte {
		data, err := seal.EncodeUpdate(seal.NewSigner(key).Sign(service, []byte(config), epoch, at))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	docs := []string{
		`{}`, `{"a":1}`, `{"a":0.5,"big":1e+21,"tiny":1e-7}`, `{"config":{"checksum":"x"},"ü":"größe|\"}","😀":[1,[2,{}]]}`,
		`{"n":{"m":{"o":[true,false,null,""]}},"url":"http://x/?a=1&b=2"}`, `{"text":"` + strings.Repeat("lorem ipsum ", 80) + `"}`,
	}
	for i, d := range docs {
		at := begin.Add(time.Duration(1+i) * time.Second)
		f.good = append(f.good, sign("stt-worker", forgedEpoch, d, at))
		f.signed = append(f.signed,
			sign("stt-worker", forgedEpoch, d, begin.Add(-time.Duration(i)*time.Microsecond)), // replayed
			sign("router", forgedEpoch, d, at),
			sign("stt-worker", "650e8400-e29b-41d4-a716-446655440000", d, at),
			sign("stt-worker", forgedEpoch, d, time.Now().Add(time.Hour)))
	}
	return f
}

// order of the group of Ed25519: S+L signs too, for who does not look.
var edOrder, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// next is one forgery, with what it says of its version: no good message has a signed
// version above that which is held.
func (f *forger) next() (m []byte, version, signature string) {
	if m = f.make(); f.rng.IntN(10) == 0 {
		m = f.good[f.rng.IntN(len(f.good))]
	}
	version, signature = f.version(m)
	return m, version, signature
}

// version is what a forger says of the version of a message.
func (f *forger) version(m []byte) (version, signature string) {
	sum, epoch := seal.Checksum([]byte("{}")), forgedEpoch
	if u, err := seal.DecodeUpdate(m); err == nil {
		sum, epoch = u.Checksum, u.Epoch
	}
	sign := func(s *seal.Signer, version uint64) string { return s.SignVersion("stt-worker", epoch, version, sum) }
	switch f.rng.IntN(9) {
	case 0: // stripped
		return "", ""
	case 1:
		return "9", ""
	case 2: // a replay, in order
		n := uint64(1 + f.rng.IntN(heldVersion-1))
		return strconv.FormatUint(n, 10), sign(f.leader, n)
	case 3: // and under another number
		return "9", sign(f.leader, 7)
	case 4: // of the number that is held
		return strconv.Itoa(heldVersion), sign(f.leader, heldVersion)
	case 5:
		return "9", sign(seal.NewSigner(f.foreign), 9)
	case 6:
		return "9", f.leader.SignVersion("router", epoch, 9, sum)
	case 7: // of what is held
		return "9", f.leader.SignVersion("stt-worker", forgedEpoch, heldVersion, seal.Checksum([]byte(heldConfig)))
	default:
		return []string{"-1", "0", "09", "9 ", "1e9", "18446744073709551616"}[f.rng.IntN(6)], sign(f.leader, 7)
	}
}

func (f *forger) make() []byte {
	r := f.rng
	if r.IntN(25) == 0 {
		return f.signed[r.IntN(len(f.signed))]
	}
	m := bytes.Clone(f.good[r.IntN(len(f.good))])
	at := func() int { return r.IntN(len(m)) }
	switch r.IntN(14) {
	case 0: // a bit
		m[at()] ^= 1 << r.IntN(8)
	case 1: // a byte that means something
		m[at()] = []byte("\"\\{}[],:|0 \n\x00")[r.IntN(13)]
	case 2: // less
		i := at()
		m = append(m[:i:i], m[min(len(m), i+1+r.IntN(8)):]...)
	case 3: // more
		i := at()
		m = slices.Concat(m[:i], []byte([]string{" ", "0", "\n", ",", "{}", `"x":1,`, "\\u0061", "\x00"}[r.IntN(8)]), m[i:])
	case 4: // cut off
		m = m[:at()]
	case 5: // two spans change places
		i, j := at(), at()
		i, j = min(i, j), max(i, j)
		k := i + r.IntN(j-i+1)
		m = slices.Concat(m[:i], m[k:j], m[i:k], m[j:])
	case 6: // the head of one, the tail of another
		o := f.good[r.IntN(len(f.good))]
		i := at()
		m = slices.Concat(m[:i], o[min(i, len(o)):])
	case 7: // parsed and printed again
		var v any
		if json.Unmarshal(m, &v) == nil {
			if r.IntN(2) == 0 {
				m, _ = json.Marshal(v)
			} else {
				m, _ = json.MarshalIndent(v, "", " ")
			}
		}
	case 8: // a member twice, or another one
		extra := []string{`"config":{"evil":true},`, `"service":"stt-worker",`, `"version":1,`, `"Config":{},`, `"x":null,`}[r.IntN(5)]
		m = slices.Concat([]byte("{"), []byte(extra), m[1:])
	case 9: // without a signature
		i := bytes.LastIndex(m, []byte(`,"signature"`))
		m = append(m[:i:i], []byte([]string{"}", `,"signature":""}`, `,"signature":null}`}[r.IntN(3)])...)
	default:
		m = f.rewrite(m)
	}
	return m
}

// rewrite changes what an update says, and makes the rest fit as far as it can be
// done without the leader's key.
func (f *forger) rewrite(m []byte) []byte {
	u, err := seal.DecodeUpdate(m)
	if err != nil {
		return m
	}
	r := f.rng
	switch r.IntN(7) {
	case 0:
		u.Config = []byte(fmt.Sprintf(`{"evil":%d}`, r.IntN(1000)))
	case 1:
		u.IssuedAt = conf.FormatTime(time.Now().Add(-time.Duration(r.IntN(1000)) * time.Millisecond))
	case 2:
		u.Epoch = "750e8400-e29b-41d4-a716-446655440000"
	case 3:
		u.Service = []string{"router", "stt-worker-2", "a"}[r.IntN(3)]
	case 4: // the other signature of the same
		raw, err := base64.StdEncoding.DecodeString(u.Signature)
		if err == nil && len(raw) == ed25519.SignatureSize {
			s := slices.Clone(raw[32:])
			slices.Reverse(s)
			sum := new(big.Int).Add(new(big.Int).SetBytes(s), edOrder).FillBytes(make([]byte, 32))
			slices.Reverse(sum)
			u.Signature = base64.StdEncoding.EncodeToString(append(raw[:32], sum...))
		}
	case 5: // of another cluster
		at, _ := conf.ParseTime(u.IssuedAt)
		u = seal.NewSigner(f.foreign).Sign(u.Service, u.Config, u.Epoch, at)
	default: // nothing but another signature
		raw := make([]byte, ed25519.SignatureSize)
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		u.Signature = base64.StdEncoding.EncodeToString(raw)
	}
	sum := sha256.Sum256(u.Config)
	u.Checksum = hex.EncodeToString(sum[:])
	out, err := seal.EncodeUpdate(u)
	if err != nil {
		return m
	}
	return out
}

func times(t *testing.T, env string, n int) int {
	t.Helper()
	if text := os.Getenv(env); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestMutatedEnvelopes holds forgeries against the verification of the Go client
// and against an observer's receiver: none is accepted. HOLDFAST_ENVELOPES=100000
// is what it was made for.
func TestMutatedEnvelopes(t *testing.T) {
	t.Parallel()
	total := times(t, "HOLDFAST_ENVELOPES", 6_000)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	held := seal.NewSigner(private).Sign("stt-worker", []byte(heldConfig), forgedEpoch, begin)
	record := &conf.Record{
		Service: held.Service, Version: heldVersion, Epoch: held.Epoch, Config: held.Config, Checksum: held.Checksum, IssuedAt: held.IssuedAt,
		Signature: held.Signature, KeyID: seal.KeyID(public),
		VersionSignature: seal.NewSigner(private).SignVersion(held.Service, held.Epoch, heldVersion, held.Checksum),
	}
	const workers = 2
	var all sync.WaitGroup
	for w := range workers {
		f := newForger(t, private, uint64(20260102+w), begin)
		receiver, err := updates.New(updates.Options{
			Services: []string{"stt-worker"}, Trust: []ed25519.PublicKey{public}, Epoch: forgedEpoch, Records: []*conf.Record{record},
		})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			passed := 0
			for range total / workers {
				m, version, signature := f.next()
				u, err := hfclient.VerifyUpdate(m, public)
				if err == nil {
					// A leader signed these very bytes: only replays and messages for others are so.
					passed++
					if !slices.ContainsFunc(slices.Concat(f.signed, f.good), func(s []byte) bool { return bytes.Equal(s, m) }) {
						t.Errorf("VerifyUpdate accepts %s", m)
					}
				} else if u.Service != "" {
					t.Errorf("VerifyUpdate refuses and returns %+v", u)
				}
				n, _ := strconv.ParseUint(version, 10, 64)
				v := receiver.Receive(updates.Message{Service: "stt-worker", Payload: m, Version: n, VersionSignature: signature})
				if v.Err == nil || v.Record != nil || v.Confirmed != "" {
					t.Errorf("the receiver accepts %s: %+v", m, v)
				}
			}
			if passed == 0 {
				t.Error("no replay was among the forgeries")
			}
			// It is not that nothing is accepted.
			for i, g := range f.good {
				u, err := hfclient.VerifyUpdate(g, public)
				if err != nil {
					t.Error(err)
				}
				n := uint64(heldVersion + 1 + i)
				signature := f.leader.SignVersion("stt-worker", forgedEpoch, n, u.Checksum)
				if v := receiver.Receive(updates.Message{Service: "stt-worker", Payload: g, Version: n, VersionSignature: signature}); v.Record == nil {
					t.Errorf("a good message is refused: %+v", v)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d forgeries", total)
}

// TestMQTTMutatedEnvelopes sends forgeries to the subscribers of all languages, and
// holds that each of them refuses each. HOLDFAST_FORGERIES says how many.
func TestMQTTMutatedEnvelopes(t *testing.T) {
	t.Parallel()
	total := times(t, "HOLDFAST_FORGERIES", 150)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	writePEM(t, trust, public)
	begin := time.Now().Add(-time.Minute).Truncate(time.Second)
	f := newForger(t, private, 7, begin)
	held, err := seal.EncodeUpdate(seal.NewSigner(private).Sign("stt-worker", []byte(heldConfig), forgedEpoch, begin))
	if err != nil {
		t.Fatal(err)
	}
	m := startMosquitto(t)
	properties := func(version uint64, config []byte) paho.UserProperties {
		return versioned(strconv.FormatUint(version, 10), f.leader.SignVersion("stt-worker", forgedEpoch, version, seal.Checksum(config)))
	}
	m.publish(string(held), true, properties(heldVersion, []byte(heldConfig))...)
	subs := follow(t, m.addr, trust)
	subs.says(fmt.Sprintf("accepted stt-worker %s %s", conf.FormatTime(begin), heldConfig))

	publish := m.publisher()
	sent := 0
	for sent < total {
		forged, version, signature := f.next()
		// mosquitto_sub gives lines: one with a line end in it is two messages to the
		// shell, and an empty one none.
		if len(forged) == 0 || bytes.ContainsAny(forged, "\n\x00") || bytes.Equal(forged, held) {
			continue
		}
		said := versioned(version, signature)
		if version == "" {
			said = nil
		}
		publish(forged, said)
		sent++
	}
	last, err := seal.DecodeUpdate(f.good[0])
	if err != nil {
		t.Fatal(err)
	}
	publish(f.good[0], properties(heldVersion+1, last.Config))
	end := fmt.Sprintf("accepted stt-worker %s %s\n", last.IssuedAt, last.Config)
	for name, p := range subs.running {
		AwaitWithin(t, 2*Patience, "the "+name+" subscriber to have them all", func() bool { return strings.HasSuffix(said(p), end) })
		out := said(p)
		if n := strings.Count(out, "accepted "); n != 2 {
			t.Errorf("the %s subscriber accepted %d messages:\n%s", name, n, out)
		}
		if n := strings.Count(out, "refused: "); n != total {
			t.Errorf("the %s subscriber refused %d of %d", name, n, total)
		}
	}
}
