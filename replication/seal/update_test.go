package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

var update = flag.Bool("update", false, "rewrite testdata")

const epoch = "550e8400-e29b-41d4-a716-446655440000"

// keyOf makes the same key pair of a number each time.
func keyOf(n byte) (ed25519.PrivateKey, ed25519.PublicKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return private, private.Public().(ed25519.PublicKey)
}

func service1200() string {
	var b strings.Builder
	b.WriteString(`{`)
	for i := range 50 {
		fmt.Fprintf(&b, `"setting_%02d":{"value":%d}%s`, i, i*37, map[bool]string{true: ",", false: ""}[i < 49])
	}
	return b.String() + `}`
}

type vector struct {
	Name      string      `json:"name"`
	Seed      string      `json:"private_key_seed_hex"`
	Public    string      `json:"public_key_base64"`
	KeyID     string      `json:"key_id"`
	Document  string      `json:"document"`
	Canonical string      `json:"canonical"`
	Signed    string      `json:"signed_bytes"`
	Update    conf.Update `json:"update"`
}

func makeVectors(t *testing.T) []vector {
	var large strings.Builder
	large.WriteString(`{"items":[`)
	for i := range 300 {
		fmt.Fprintf(&large, `%s{"n":%d,"name":"item-%d","f":%d.25}`, map[bool]string{true: ",", false: ""}[i > 0], i, i, i)
	}
	large.WriteString(`]}`)
	docs := []struct {
		name, service, doc string
		at                 time.Time
	}{
		{"empty", "router", `{}`, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{"microseconds", "router", `{"a":1}`, time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)},
		{"nanoseconds are cut", "router", `{"a":1}`, time.Date(2026, 1, 2, 3, 4, 5, 6999, time.UTC)},
		{"another zone", "router", `{"a":1}`, time.Date(2026, 1, 2, 5, 4, 5, 0, time.FixedZone("", 7200))},
		{"floats", "stt-worker", `{"vad":0.5,"one":1.0,"tiny":1e-7,"big":1e21,"third":0.3333333333333333,"neg":-0.0}`, time.Unix(1e9, 0)},
		{"unicode", "tts-worker", `{"ü":"größe","😀":"\ud83d\ude00","\ufb33":"dalet","nul":"\u0000\u001f","slash":"\/","html":"<&>\u2028"}`, time.Unix(1e9, 0)},
		{"nested", "llm-worker", `{"z":{"y":{"x":[1,[2,[3,{}]],[]]}},"a":{"b":null,"c":true,"d":false}}`, time.Unix(1e9, 0)},
		{"pipes in values", "ui-web", `{"a|b":"1|2|3","sum":"|"}`, time.Unix(1e9, 0)},
		{"regex of the seed", "router", `{"router_stream_boundary_regex":"[.!?…]+[\"')\\\\]]?\\\\s"}`, time.Unix(1e9, 0)},
		{"large", "memory-worker", large.String(), time.Unix(1e9, 0)},
	}
	out := make([]vector, 0, len(docs))
	for i, d := range docs {
		private, public := keyOf(byte(i%3 + 1))
		canonical, err := seal.CanonicalJSON([]byte(d.doc))
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		signer := seal.NewSigner(private)
		u := signer.Sign(d.service, canonical, epoch, d.at)
		signed, err := seal.SignedBytes(u)
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		out = append(out, vector{
			Name: d.name, Seed: fmt.Sprintf("%x", private.Seed()), Public: base64.StdEncoding.EncodeToString(public),
			KeyID: signer.KeyID(), Document: d.doc, Canonical: string(canonical), Signed: string(signed), Update: u,
		})
	}
	return out
}

func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors.json")
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatal("signed bytes changed: every client out there would refuse them. If that is meant, run go test -update")
	}
	var vectors []vector
	if err := json.Unmarshal(want, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) { checkVector(t, v) })
	}
}

// checkVector reads a vector with nothing but the standard library, as a client
// in another language would.
func checkVector(t *testing.T, v vector) {
	public, err := base64.StdEncoding.DecodeString(v.Public)
	if err != nil {
		t.Fatal(err)
	}
	want := "1|" + v.Update.Service + "|" + v.Canonical + "|" + v.Update.Checksum + "|" + v.Update.Epoch + "|" + v.Update.IssuedAt
	if v.Signed != want {
		t.Fatalf("signed bytes are %s", v.Signed)
	}
	sig, err := base64.StdEncoding.DecodeString(v.Update.Signature)
	if err != nil || !ed25519.Verify(public, []byte(want), sig) {
		t.Fatalf("signature does not verify: %v", err)
	}
	wire, err := seal.EncodeUpdate(v.Update)
	if err != nil {
		t.Fatal(err)
	}
	back, err := seal.DecodeUpdate(wire)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Verify(public, back); err != nil {
		t.Fatal(err)
	}
	if _, other := keyOf(9); conf.CodeOf(seal.Verify(other, back)) != conf.CodeDenied {
		t.Fatal("another key verifies it")
	}
}

func TestUpdateRoundTrip(t *testing.T) {
	private, public := keyOf(1)
	u := seal.NewSigner(private).Sign("router", []byte(`{"a":"<>","b":[1,2]}`), epoch, time.Unix(1e9, 5000))
	wire, err := seal.EncodeUpdate(u)
	if err != nil {
		t.Fatal(err)
	}
	back, err := seal.DecodeUpdate(wire)
	if err != nil || !reflect.DeepEqual(back, u) {
		t.Fatalf("got %+v, %v\nwant %+v", back, err, u)
	}
	// A relay may reformat the document: the signature covers its canonical form.
	loose := bytes.Replace(wire, []byte(`{"a":"<>","b":[1,2]}`), []byte(`{ "b": [1.0, 2e0], "a": "\u003c\u003e" }`), 1)
	back, err = seal.DecodeUpdate(loose)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Verify(public, back); err != nil {
		t.Fatal(err)
	}
}

func TestLargestNestingTravels(t *testing.T) {
	private, public := keyOf(1)
	doc := strings.Repeat(`{"a":`, conf.MaxDepth) + `1` + strings.Repeat(`}`, conf.MaxDepth)
	if _, err := conf.ParseJSON([]byte(doc), conf.MaxDocument); err != nil {
		t.Fatal(err)
	}
	wire, err := seal.EncodeUpdate(seal.NewSigner(private).Sign("router", []byte(doc), epoch, time.Unix(1e9, 0)))
	if err != nil {
		t.Fatal(err)
	}
	u, err := seal.DecodeUpdate(wire)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Verify(public, u); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	private, public := keyOf(1)
	good := seal.NewSigner(private).Sign("router", []byte(`{"a":1}`), epoch, time.Unix(1e9, 0))
	resign := func(u conf.Update) conf.Update { // with a valid signature over whatever u says
		b := fmt.Sprintf("%d|%s|%s|%s|%s|%s", u.Version, u.Service, u.Config, u.Checksum, u.Epoch, u.IssuedAt)
		u.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(b)))
		return u
	}
	edit := func(f func(u *conf.Update)) conf.Update {
		u := good
		f(&u)
		return u
	}
	if err := seal.Verify(public, resign(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		u    conf.Update
		code conf.Code
	}{
		{"config", edit(func(u *conf.Update) { u.Config = json.RawMessage(`{"a":2}`) }), conf.CodeCorrupt},
		{"config and checksum", edit(func(u *conf.Update) {
			u.Config, u.Checksum = json.RawMessage(`{"a":2}`), seal.Checksum([]byte(`{"a":2}`))
		}), conf.CodeDenied},
		{"no config", edit(func(u *conf.Update) { u.Config = nil }), conf.CodeCorrupt},
		{"config array", resign(edit(func(u *conf.Update) {
			u.Config, u.Checksum = json.RawMessage(`[]`), seal.Checksum([]byte(`[]`))
		})), conf.CodeCorrupt},
		{"duplicate key", edit(func(u *conf.Update) { u.Config = json.RawMessage(`{"a":2,"a":1}`) }), conf.CodeCorrupt},
		{"service", edit(func(u *conf.Update) { u.Service = "routes" }), conf.CodeDenied},
		{"service with a pipe", resign(edit(func(u *conf.Update) { u.Service = "a|b" })), conf.CodeCorrupt},
		{"epoch", edit(func(u *conf.Update) { u.Epoch = strings.Replace(epoch, "5", "6", 1) }), conf.CodeDenied},
		{"epoch with a pipe", resign(edit(func(u *conf.Update) { u.Epoch = "a|b" })), conf.CodeCorrupt},
		{"no epoch", resign(edit(func(u *conf.Update) { u.Epoch = "" })), conf.CodeCorrupt},
		{"time", edit(func(u *conf.Update) { u.IssuedAt = "2001-09-09T01:46:41+00:00" }), conf.CodeDenied},
		{"time spelled otherwise", resign(edit(func(u *conf.Update) { u.IssuedAt = "2001-09-09T01:46:40Z" })), conf.CodeCorrupt},
		{"no time", resign(edit(func(u *conf.Update) { u.IssuedAt = "" })), conf.CodeCorrupt},
		{"version", resign(edit(func(u *conf.Update) { u.Version = 2 })), conf.CodeCorrupt},
		{"checksum in capitals", resign(edit(func(u *conf.Update) { u.Checksum = strings.ToUpper(u.Checksum) })), conf.CodeCorrupt},
		{"no signature", edit(func(u *conf.Update) { u.Signature = "" }), conf.CodeCorrupt},
		{"loose base64", edit(func(u *conf.Update) { u.Signature = looseBase64(u.Signature) }), conf.CodeCorrupt},
		{"line end in base64", edit(func(u *conf.Update) { u.Signature = u.Signature[:86] + "\n=" }), conf.CodeCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := seal.Verify(public, c.u); conf.CodeOf(err) != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
		})
	}
	for _, short := range []ed25519.PublicKey{nil, public[:31]} {
		if err := seal.Verify(short, good); conf.CodeOf(err) != conf.CodeDenied {
			t.Fatalf("got %v for a key of %d bytes", err, len(short))
		}
	}
}

// looseBase64 sets a bit that the decoded bytes do not hold.
func looseBase64(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := len(s) - 3
	return s[:i] + string(alphabet[strings.IndexByte(alphabet, s[i])|1]) + s[i+1:]
}

func TestVerifyRecord(t *testing.T) {
	private, public := keyOf(1)
	_, other := keyOf(2)
	signer := seal.NewSigner(private)
	u := signer.Sign("router", []byte(`{"a":1,"b":2}`), epoch, time.Unix(1e9, 0))
	good := conf.Record{
		Service: u.Service, Version: 3, Epoch: u.Epoch, Config: u.Config, Checksum: u.Checksum,
		IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: signer.KeyID(),
	}
	for _, c := range []struct {
		name string
		pub  ed25519.PublicKey
		f    func(r *conf.Record)
		code conf.Code
	}{
		{"good", public, func(*conf.Record) {}, ""},
		{"no key id", public, func(r *conf.Record) { r.KeyID = "" }, ""},
		{"wrong key id", public, func(r *conf.Record) { r.KeyID = "0011223344556677" }, conf.CodeCorrupt},
		{"other key", other, func(*conf.Record) {}, conf.CodeDenied},
		{"not canonical", public, func(r *conf.Record) { r.Config = json.RawMessage(`{"b":2,"a":1}`) }, conf.CodeCorrupt},
		{"config gone", public, func(r *conf.Record) { r.Config = nil }, conf.CodeCorrupt},
		{"never configured", public, func(r *conf.Record) { *r = conf.Record{Service: "router"} }, ""},
		{"version taken off", public, func(r *conf.Record) { r.Version, r.Config = 0, nil }, conf.CodeCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good
			c.f(&r)
			if err := seal.VerifyRecord(c.pub, &r); conf.CodeOf(err) != c.code {
				t.Fatalf("got %v, want %q", err, c.code)
			}
		})
	}
}

func TestDecodeUpdateRefuses(t *testing.T) {
	private, _ := keyOf(1)
	wire, err := seal.EncodeUpdate(seal.NewSigner(private).Sign("router", []byte(`{"a":1}`), epoch, time.Unix(1e9, 0)))
	if err != nil {
		t.Fatal(err)
	}
	good := string(wire)
	for name, in := range map[string]string{
		"empty":             "",
		"array":             "[]",
		"torn":              good[:len(good)-1],
		"trailing":          good + "x",
		"unknown member":    strings.Replace(good, `{"version"`, `{"extra":1,"version"`, 1),
		"other case":        strings.Replace(good, `"config":`, `"Config":`, 1),
		"both cases":        strings.Replace(good, `"config":`, `"Config":{},"config":`, 1),
		"duplicate":         strings.Replace(good, `"config":`, `"config":{},"config":`, 1),
		"missing signature": good[:strings.Index(good, `,"signature"`)] + "}",
		"null config":       strings.Replace(good, `{"a":1}`, `null`, 1),
		"text version":      strings.Replace(good, `"version":1`, `"version":"1"`, 1),
		"float version":     strings.Replace(good, `"version":1`, `"version":1.0`, 1),
		"number service":    strings.Replace(good, `"router"`, `7`, 1),
		"large integer":     strings.Replace(good, `{"a":1}`, `{"a":9007199254740993}`, 1),
		"too large":         strings.Replace(good, `{"a":1}`, `{"a":"`+strings.Repeat("x", seal.MaxUpdate)+`"}`, 1),
	} {
		if u, err := seal.DecodeUpdate([]byte(in)); err == nil {
			t.Errorf("%s: got %+v", name, u)
		}
	}
	if _, err := seal.EncodeUpdate(conf.Update{Config: json.RawMessage(`{`)}); conf.CodeOf(err) != conf.CodeInvalid {
		t.Errorf("encoding broken JSON: %v", err)
	}
}

func TestMAC(t *testing.T) {
	// RFC 4231, test case 2.
	const want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	key, data := []byte("Jefe"), []byte("what do ya want for nothing?")
	if got := seal.MAC(key, data); got != want {
		t.Fatalf("got %s", got)
	}
	if !seal.CheckMAC(key, data, want) {
		t.Fatal("refused")
	}
	if seal.CheckMAC(key, data, strings.ToUpper(want)) || seal.CheckMAC(key, data, want[:63]) || seal.CheckMAC(key, data, "") ||
		seal.CheckMAC([]byte("jefe"), data, want) || seal.CheckMAC(nil, data, seal.MAC(nil, data)) {
		t.Fatal("accepted")
	}
}

// FuzzUpdate changes a signed message: whatever still verifies must mean the
// same as the original.
func FuzzUpdate(f *testing.F) {
	private, public := keyOf(1)
	original := seal.NewSigner(private).Sign("router", []byte(`{"a":0.5,"b":["x","é"],"c":{"d":null}}`), epoch, time.Unix(1e9, 5000))
	wire, err := seal.EncodeUpdate(original)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire, 0, byte(0))
	for at := 0; at < len(wire); at += 7 {
		f.Add(wire, at, byte(1<<(at%8)))
	}
	f.Add(bytes.Replace(wire, []byte("0.5"), []byte("5e-1"), 1), 0, byte(0))
	f.Fuzz(func(t *testing.T, in []byte, at int, flip byte) {
		in = bytes.Clone(in)
		if at >= 0 && at < len(in) {
			in[at] ^= flip
		}
		checkSame(t, public, original, in)
	})
}

func TestEveryByteIsSigned(t *testing.T) {
	private, public := keyOf(1)
	original := seal.NewSigner(private).Sign("router", []byte(`{"a":0.5,"b":["x","é"],"c":{"d":null}}`), epoch, time.Unix(1e9, 5000))
	wire, err := seal.EncodeUpdate(original)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := range wire {
		for bit := range 8 {
			in := bytes.Clone(wire)
			in[at] ^= 1 << bit
			if !checkSame(t, public, original, in) {
				refused++
			}
		}
	}
	if refused < len(wire)*8*99/100 {
		t.Fatalf("only %d of %d flips were refused", refused, len(wire)*8)
	}
}

// checkSame says whether in verifies, and fails the test when it does with
// another meaning than original.
func checkSame(t *testing.T, public ed25519.PublicKey, original conf.Update, in []byte) bool {
	t.Helper()
	u, err := seal.DecodeUpdate(in)
	if err != nil || seal.Verify(public, u) != nil {
		return false
	}
	canonical, err := seal.CanonicalJSON(u.Config)
	if err != nil {
		t.Fatal(err)
	}
	if u.Config = canonical; !reflect.DeepEqual(u, original) {
		t.Fatalf("%q verifies as %+v", in, u)
	}
	return true
}

func BenchmarkVerifyRecord(b *testing.B) {
	private, public := keyOf(1)
	canonical, err := seal.CanonicalJSON([]byte(service1200()))
	if err != nil {
		b.Fatal(err)
	}
	u := seal.NewSigner(private).Sign("router", canonical, epoch, time.Unix(1e9, 0))
	r := &conf.Record{Service: u.Service, Version: 1, Epoch: u.Epoch, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature}
	b.ReportAllocs()
	for b.Loop() {
		if err := seal.VerifyRecord(public, r); err != nil {
			b.Fatal(err)
		}
	}
}
