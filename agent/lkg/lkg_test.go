package lkg_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

var update = flag.Bool("update", false, "rewrite testdata")

const (
	epoch    = "550e8400-e29b-41d4-a716-446655440000"
	oldEpoch = "11111111-e29b-41d4-a716-446655440000"
)

var (
	macKey = []byte("0123456789abcdef0123456789abcdef")
	signer = seal.NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	public = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public().(ed25519.PublicKey)
	start  = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
)

// record makes a signed record of a document that is canonical.
func record(service string, version uint64, doc string) *conf.Record {
	u := signer.Sign(service, []byte(doc), epoch, start)
	return &conf.Record{
		Service: service, Version: version, Epoch: epoch, Values: json.RawMessage(doc), Config: u.Config, Checksum: u.Checksum,
		IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: signer.KeyID(),
		UpdatedAt: conf.FormatTime(start), UpdatedBy: "token-1a2b3c4d", Index: 10 + version,
	}
}

// sample holds one of each kind of record.
func sample() *lkg.Content {
	tombstone := record("gone", 5, `{}`)
	tombstone.Deleted, tombstone.Values = true, nil
	old := record("old-epoch", 2, `{"a":"\n\"<é😀"}`)
	u := signer.Sign("old-epoch", old.Config, oldEpoch, start)
	old.Epoch, old.Signature, old.UpdatedBy = oldEpoch, u.Signature, "größe \"x\"\n"
	withSchema := record("stt-worker", 3, `{"vad_threshold":0.5,"whisper_model":"base.en"}`)
	withSchema.Schema = json.RawMessage(`{"properties":{"vad_threshold":{"default":0.5,"type":"number"}},"type":"object"}`)
	withSchema.Values = json.RawMessage(`{}`)
	withSchema.Secrets = []conf.SealedSecret{
		{Key: "db.password", Value: "bm9uY2UgYW5kIGNpcGhlcnRleHQ=", KeyID: "6f1c1a9e-7d0e-4f3a-9c53-0d7a0a3b9f11", CreatedAt: "2026-01-02T03:04:05+00:00", UpdatedAt: "2026-01-03T03:04:05+00:00"},
		{Key: "token", Value: "AAAA", KeyID: "k", CreatedAt: "c", UpdatedAt: "u"},
	}
	source := conf.SourceEnv
	return &lkg.Content{
		Epoch: epoch, GeneratedAt: start, Index: 42,
		Records: []*conf.Record{
			tombstone, old, withSchema,
			{Service: "unconfigured", Epoch: epoch, Schema: json.RawMessage(`true`)},
		},
		Secrets: map[string][]conf.Field{"stt-worker": {
			{Key: "api_key", Service: "stt-worker", Type: conf.TypeSecret, IsSecret: true, SecretSource: &source, Env: "STT_API_KEY"},
			{Key: "nested.token", Service: "stt-worker", Type: conf.TypeSecret, IsSecret: true, SecretSource: &source, Env: "STT_TOKEN"},
		}},
	}
}

func encode(t testing.TB, c *lkg.Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := lkg.Encode(&b, macKey, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(data []byte) (*lkg.Content, error) { return lkg.Decode(bytes.Clone(data), macKey) }

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.lkg.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	got, err := lkg.Load(write(t, encode(t, want)), macKey)
	if err != nil {
		t.Fatal(err)
	}
	got.Journal = nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	for _, r := range got.Records {
		if err := seal.VerifyRecord(public, r); err != nil {
			t.Errorf("%s: %v", r.Service, err)
		}
		if cap(r.Config) != len(r.Config) && !r.Deleted {
			t.Errorf("%s: an append to its document would write into the file's bytes", r.Service)
		}
	}
	// Nanoseconds are not in the file; another tool may write some.
	nanos := func(s string) string {
		return strings.Replace(s, ":05.000006+00:00\",\"payload", ":05.000006999Z\",\"payload", 1)
	}
	if got, err = decode(resigned(t, nanos)); err != nil || !got.GeneratedAt.Equal(start) {
		t.Fatalf("nanoseconds: %v, %v", got, err)
	}
	empty := &lkg.Content{Epoch: epoch, GeneratedAt: start}
	if got, err = decode(encode(t, empty)); err != nil || !reflect.DeepEqual(got, empty) {
		t.Fatalf("empty: %+v, %v", got, err)
	}
}

func TestRecordsAreSorted(t *testing.T) {
	c := sample()
	sorted := encode(t, c)
	c.Records[0], c.Records[2] = c.Records[2], c.Records[0]
	if !bytes.Equal(encode(t, c), sorted) || c.Records[0].Service != "stt-worker" {
		t.Fatal("the order of the records shows in the file, or was changed")
	}
}

// TestGolden holds the file to the seed's model and to RFC 8785, with another
// implementation of it.
func TestGolden(t *testing.T) {
	// A file of a build without sealed secrets stays readable, and a store without
	// them writes the same file as before.
	before := sample()
	for _, r := range before.Records {
		r.Secrets = nil
	}
	golden(t, "config.lkg.json", before)
	golden(t, "sealed.lkg.json", sample())
}

func golden(t *testing.T, name string, c *lkg.Content) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got := encode(t, c)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the file changed: agents of the last release could not read it\ngot  %s\nwant %s", got, want)
	}
	if canonical, err := jcs.Transform(got); err != nil || !bytes.Equal(canonical, got) {
		t.Fatalf("not in RFC 8785 form: %v", err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(got, &m); err != nil {
		t.Fatal(err)
	}
	var payload map[string]map[string]any
	if err := json.Unmarshal(m["payload"], &payload); err != nil {
		t.Fatal(err)
	}
	if len(m) != 5 || len(payload) != 3 || payload["stt-worker"]["whisper_model"] != "base.en" || payload["_meta"] == nil {
		t.Fatalf("not the seed's model: %s", got)
	}
	var signature string
	if err := json.Unmarshal(m["signature"], &signature); err != nil {
		t.Fatal(err)
	}
	delete(m, "signature")
	rest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := jcs.Transform(rest)
	if err != nil || !seal.CheckMAC(macKey, canonical, signature) {
		t.Fatalf("signature is not the HMAC of the other members: %v", err)
	}
}

// TestOtherSpelling accepts a file that another tool wrote with the same content.
func TestOtherSpelling(t *testing.T) {
	want := sample()
	data := encode(t, want)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, data, "", "\t"); err != nil {
		t.Fatal(err)
	}
	var any any
	if err := json.Unmarshal(data, &any); err != nil {
		t.Fatal(err)
	}
	escaped, err := json.Marshal(any)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{
		"indented": pretty.Bytes(), "escaped": escaped, "line end": append(bytes.Clone(data), '\n'),
		"exponent": bytes.Replace(data, []byte(`"version":3`), []byte(`"version":3e0`), 1),
	} {
		if got, err := decode(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// resigned gives the file of edit(sample) a right signature.
func resigned(t *testing.T, edit func(s string) string) []byte {
	t.Helper()
	data := string(encode(t, sample()))
	cut := strings.LastIndex(data, `,"signature"`)
	edited := edit(data[:cut] + "}")
	return []byte(edited[:len(edited)-1] + `,"signature":"` + seal.MAC(macKey, []byte(edited)) + `"}`)
}

func replacing(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

func TestRefused(t *testing.T) {
	good := string(encode(t, sample()))
	signature := good[len(good)-66 : len(good)-2]
	for _, c := range []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "end"},
		{"torn", []byte(good[:len(good)/2]), "end"},
		{"torn at the last byte", []byte(good[:len(good)-1]), "end"},
		{"trailing garbage", []byte(good + "x"), "more text"},
		{"zeros at the end", []byte(good + "\x00\x00"), "more text"},
		{"zeros", make([]byte, 4096), "malformed"},
		{"an array", []byte("[]"), "object"},
		{"value changed", []byte(strings.Replace(good, "base.en", "tiny.en", 1)), "HMAC"},
		{"signature changed", []byte(strings.Replace(good, signature, strings.Repeat("0", 64), 1)), "HMAC"},
		{"signature in capitals", []byte(strings.Replace(good, signature, strings.ToUpper(signature), 1)), "HMAC"},
		{"no signature", []byte(good[:strings.LastIndex(good, `,"signature"`)] + "}"), `"signature" is missing`},
		{"signature null", []byte(strings.Replace(good, `"`+signature+`"`, "null", 1)), `"signature" is not a string`},
		{"algorithm none", []byte(strings.Replace(good, "hmac-sha256", "none", 1)), "algorithm"},
		{"payload null", []byte(`{"algorithm":"hmac-sha256","config_epoch":"","generated_at":"","payload":null,"signature":""}`), `"payload" is not`},
		{"unknown member", []byte(strings.Replace(good, `{"algorithm"`, `{"aa":1,"algorithm"`, 1)), `unknown member "aa"`},
		{"duplicate member", []byte(strings.Replace(good, `{"algorithm"`, `{"algorithm":"hmac-sha256","algorithm"`, 1)), "duplicate"},
		{"duplicate service", []byte(strings.Replace(good, `"stt-worker":{"vad`, `"stt-worker":{},"stt-worker":{"vad`, 1)), "duplicate"},
		{"not UTF-8", []byte(strings.Replace(good, "base.en", "base\xffen", 1)), "UTF-8"},
		{"too deep", []byte(strings.Replace(good, `"base.en"`, strings.Repeat("[", 99)+strings.Repeat("]", 99), 1)), "deeper"},

		// With a right HMAC: what a damaged or another writer could make.
		{"signed unknown member", resigned(t, replacing(`{"algorithm"`, `{"aa":1,"algorithm"`)), `unknown member "aa"`},
		{"signed duplicate member", resigned(t, replacing(`{"algorithm"`, `{"algorithm":"hmac-sha256","algorithm"`)), "twice"},
		{"signed other algorithm", resigned(t, replacing("hmac-sha256", "hmac-sha512")), "algorithm"},
		{"signed without payload", resigned(t, func(s string) string { return s[:strings.Index(s, `,"payload"`)] + "}" }), "missing"},
		{"signed without _meta", resigned(t, replacing(`"_meta":`, `"meta":`)), "_meta"},
		{"signed empty payload", resigned(t, func(s string) string { return s[:strings.Index(s, `"_meta"`)] + "}}" }), "_meta"},
		{"signed garbage after it", resigned(t, func(s string) string { return s + "}" }), "more text"},
		{"signed bad time", resigned(t, replacing("2026-01-02T03:04:05.000006+00:00", "yesterday")), "generated_at"},
		{"signed other document", resigned(t, replacing("base.en", "tiny.en")), "checksum"},
		{"signed document gone", resigned(t, replacing(`,"stt-worker":{"vad_threshold":0.5,"whisper_model":"base.en"}}`, "}")), "no document"},
		{"signed document of nobody", resigned(t, replacing(`"base.en"}}`, `"base.en"},"zzz":{}}`)), "unknown service"},
		{"signed document of a tombstone", resigned(t, replacing(`,"old-epoch":{"a":`, `,"gone":{},"old-epoch":{"a":`)), "unknown service"},
		{"signed document twice", resigned(t, replacing(`"stt-worker":{"vad`, `"stt-worker":{},"stt-worker":{"vad`)), ""},
		{"signed record twice", resigned(t, replacing(`{"gone":`, `{"gone":{"version":1},"gone":`)), ""},
		{"signed document is an array", resigned(t, replacing(`{"vad_threshold":0.5,"whisper_model":"base.en"}`, `[]`)), "expected"},
		{"signed unknown member of a record", resigned(t, replacing(`"checksum"`, `"checksu":1,"checksum"`)), "unknown member"},
		{"signed unknown member of _meta", resigned(t, replacing(`{"index"`, `{"inde":1,"index"`)), "unknown member"},
		{"signed unknown member of a secret", resigned(t, replacing(`{"env"`, `{"en":1,"env"`)), "unknown member"},
		{"signed half a secret", resigned(t, replacing(`{"env":"STT_API_KEY",`, `{`)), "missing"},
		{"signed record without version", resigned(t, replacing(`,"version":3}`, `}`)), "no version"},
		{"signed bad service", resigned(t, replacing(`"gone":`, `"GONE":`)), "service name"},
		{"signed deleted false", resigned(t, replacing(`"deleted":true`, `"deleted":false`)), "expected true"},
		{"signed large index", resigned(t, replacing(`"index":42`, `"index":99999999999999999999`)), "integer"},
		{"signed index with zeros", resigned(t, replacing(`"index":42`, `"index":042`)), "integer"},
		{"signed bad schema", resigned(t, replacing(`"schema":true`, `"schema":tru`)), "expected"},
		{"signed not UTF-8", resigned(t, replacing(`"schema":true`, "\"schema\":\"\xff\"")), "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := lkg.Load(write(t, c.data), macKey)
			if conf.CodeOf(err) != conf.CodeCorrupt || conf.HintOf(err) == "" {
				t.Fatalf("got %v, hint %q", err, conf.HintOf(err))
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "config.lkg.json") {
				t.Fatalf("%q does not say %q, or not of which file", err, c.says)
			}
		})
	}
	// The helper's own work is accepted when nothing is edited.
	if _, err := decode(resigned(t, func(s string) string { return s })); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	fifo, large, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "large"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("/dev/zero", link), os.WriteFile(large, nil, 0o600), os.Truncate(large, lkg.MaxFile+1)); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]conf.Code{
		dir: conf.CodeCorrupt, fifo: conf.CodeCorrupt, link: conf.CodeCorrupt, large: conf.CodeCorrupt,
		filepath.Join(dir, "none"): conf.CodeNotFound, filepath.Join(fifo, "x"): conf.CodeCorrupt,
	} {
		if _, err := lkg.Load(path, macKey); conf.CodeOf(err) != code {
			t.Errorf("%s: got %v", path, err)
		}
	}
	// A large file without a right HMAC is not parsed.
	if err := os.Truncate(large, 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := lkg.Load(large, macKey); conf.CodeOf(err) != conf.CodeCorrupt || !strings.Contains(err.Error(), "HMAC") {
		t.Errorf("64 MiB of zeros: got %v", err)
	}
	good := write(t, encode(t, sample()))
	if _, err := lkg.Load(good, []byte("another key")); conf.CodeOf(err) != conf.CodeCorrupt || !strings.Contains(conf.HintOf(err), "LKG_HMAC_KEY_BASE64") {
		t.Errorf("another key: got %v", err)
	}
	if _, err := lkg.Load(good, nil); conf.CodeOf(err) != conf.CodeUsage {
		t.Errorf("no key: got %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, edit := range map[string]func(c *lkg.Content){
		"twice":                   func(c *lkg.Content) { c.Records = append(c.Records, c.Records[0]) },
		"bad name":                func(c *lkg.Content) { c.Records[0].Service = "_meta" },
		"no document":             func(c *lkg.Content) { c.Records[2].Config = nil },
		"tombstone with document": func(c *lkg.Content) { c.Records[0].Config = json.RawMessage(`{"a":1}`) },
	} {
		c := sample()
		edit(c)
		if err := lkg.Encode(io.Discard, macKey, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := lkg.Encode(io.Discard, nil, sample()); err == nil {
		t.Error("no key: accepted")
	}
	full := errors.New("disk full")
	if err := lkg.Encode(failing{full}, macKey, sample()); !errors.Is(err, full) {
		t.Errorf("failing writer: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestEveryByte changes each byte of a real file of three services: Load refuses
// the file or returns the very same content.
func TestEveryByte(t *testing.T) {
	c := sample()
	c.Records = c.Records[:3]
	data := encode(t, c)
	path := write(t, data)
	want, err := lkg.Load(path, macKey)
	if err != nil {
		t.Fatalf("the original: %v", err)
	}
	if want.Journal = nil; !reflect.DeepEqual(want, c) {
		t.Fatal("the original is not what was written")
	}
	refused, total := 0, 0
	flip := func(at int, bits byte) {
		changed := bytes.Clone(data)
		changed[at] ^= bits
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		total++
		got, err := lkg.Load(path, macKey)
		switch {
		case err != nil && conf.CodeOf(err) != conf.CodeCorrupt:
			t.Fatalf("byte %d ^ %#02x: %v", at, bits, err)
		case err != nil:
			refused++
		case !reflect.DeepEqual(got, want):
			t.Fatalf("byte %d ^ %#02x: a wrong value was loaded", at, bits)
		}
	}
	for at := range data {
		flip(at, 1<<(at%8))
		if at%17 == 0 {
			for bit := range 8 {
				flip(at, 1<<bit)
			}
		}
	}
	for n := range data { // torn at each byte
		if _, err := decode(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were loaded", n, len(data))
		}
	}
	t.Logf("%d of %d changes were refused", refused, total)
	if refused < total*99/100 {
		t.Fatalf("only %d of %d changes were refused", refused, total)
	}
}

// FuzzLoad signs whatever it is given, so that the parser behind the HMAC sees
// it: it must not panic, and what it accepts must survive a round trip.
func FuzzLoad(f *testing.F) {
	good := encode(f, sample())
	f.Add(good)
	f.Add(encode(f, &lkg.Content{Epoch: epoch, GeneratedAt: start}))
	f.Add([]byte(`{"algorithm":"hmac-sha256","config_epoch":"\u0041","generated_at":"2026-01-02T03:04:05Z","payload":{"_meta":{"index":0,"services":{"a":{"index":1,"schema":[1,-2.5e+3,"\ud83d\ude00",null],"version":0}}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := decode(in); err != nil && conf.CodeOf(err) != conf.CodeCorrupt {
			t.Fatalf("got %v", err)
		}
		cut := bytes.LastIndex(in, []byte(`,"signature":"`))
		if cut < 0 {
			cut = max(len(in)-1, 0)
		}
		body := append(bytes.Clone(in[:cut]), '}')
		signed := fmt.Appendf(bytes.Clone(in[:cut]), `,"signature":"%s"}`, seal.MAC(macKey, body))
		c, err := decode(signed)
		if err != nil {
			if conf.CodeOf(err) != conf.CodeCorrupt {
				t.Fatalf("got %v", err)
			}
			return
		}
		again, err := decode(encode(t, c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("got  %+v, %v\nwant %+v", again, err, c)
		}
	})
}

// many makes the content of n services with documents of about 1.2 KB, and
// schemas of about 3 KB.
func many(n int) *lkg.Content {
	c := &lkg.Content{Epoch: epoch, GeneratedAt: start, Index: 7}
	var doc, schema strings.Builder
	for i := range 50 {
		fmt.Fprintf(&doc, `,"setting_%02d":"value %03d"`, i, i*7)
		fmt.Fprintf(&schema, `,"setting_%02d":{"default":"value %03d","maxLength":100,"type":"string"}`, i, i*7)
	}
	base := record("service-00000", 1, "{"+doc.String()[1:]+"}")
	base.Schema = json.RawMessage(`{"properties":{` + schema.String()[1:] + `},"type":"object"}`)
	for i := range n {
		r := *base
		r.Service = fmt.Sprintf("service-%05d", i)
		c.Records = append(c.Records, &r)
	}
	return c
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := write(b, encode(b, many(n)))
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := lkg.Load(path, macKey); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode stands beside the HMAC alone over the same bytes.
func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		c := many(n)
		data := encode(b, c)
		for name, run := range maps.All(map[string]func(){
			"hmac":   func() { seal.MAC(macKey, data) },
			"encode": func() { _ = lkg.Encode(io.Discard, macKey, c) },
		}) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}

// TestPast keeps the newest of the epochs that were left.
func TestPast(t *testing.T) {
	want := sample()
	want.PastEpochs = []string{oldEpoch, "the-one-before"}
	got, err := decode(encode(t, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint("epoch-", i))
	}
	want.PastEpochs = many
	if got, err = decode(encode(t, want)); err != nil || !slices.Equal(got.PastEpochs, many[36:]) {
		t.Fatalf("of 100: %v, %v", got.PastEpochs, err)
	}
}
