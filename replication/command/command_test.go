package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

var update = flag.Bool("update", false, "write the golden files")

const awkward = `{"html":"<b>&amp;</b>","sep":"` + "\u2028\u2029" + `","esc":"\n\"\\","e":"é","n":-0.5,"big":1e+21,"deep":[[[[{}]]]],"nul":null}`

func samples() map[string]Command {
	at := "2026-01-02T03:04:05.000006+00:00"
	all := map[string]Command{
		"genesis":      &Genesis{Epoch: "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01", At: at, NodeID: "node-1", Reason: "first start"},
		"genesis-keep": &Genesis{Epoch: "e2", At: at, NodeID: "node-1", Reason: "recovered", Keep: true},
		"genesis-signed": &Genesis{
			Epoch: "e3", At: at, Keep: true,
			Signed: &conf.EpochChange{Previous: "e2", Epoch: "e3", At: at, Signature: "c2ln+/==", KeyID: "0011223344556677"},
		},
		"genesis-min": &Genesis{Epoch: "e", At: at},
		"edit": &Edit{
			ID: "req-1", Epoch: "5a0c3f1e", At: at, By: "token:01234567", Reason: "a <reason> & more", Action: ActionPut,
			Updates: []Update{
				{
					Service: "stt-worker", Prev: 1, Version: 2, Values: json.RawMessage(awkward), Config: json.RawMessage(awkward),
					Checksum: "c0ffee", IssuedAt: at, Signature: "c2ln+/==", KeyID: "0011223344556677",
				},
				{
					Service: "router", Prev: 4, Version: 5, Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`), Checksum: "44136f",
					IssuedAt: at, Signature: "c2ln", KeyID: "0011223344556677", Deleted: true, UpdatedAt: at, UpdatedBy: "ann",
				},
			},
			Schemas:        []Schema{{Service: "stt-worker", Schema: json.RawMessage(`{"properties":{"a":{"pattern":"^<\\d+>$"}},"type":"object"}`)}},
			Profiles:       []Profile{{Name: "night", Description: "quiet", Services: map[string]json.RawMessage{"b": json.RawMessage(awkward), "a": json.RawMessage(`{}`)}}},
			ProfileDeletes: []string{"day"},
			Audit:          []conf.Access{{UserID: "token:01234567", Action: "write", Service: "stt-worker", Success: true, Reason: "r", Timestamp: at}},
		},
		"edit-secrets": &Edit{
			Epoch: "e", At: at, By: "ann", Action: ActionSecretSet,
			Updates: []Update{{Service: "a", Prev: 1, Version: 2, Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`), Checksum: "c", IssuedAt: at, Signature: "s", KeyID: "k"}},
			Secrets: []Secret{
				{Service: "a", Key: "db.password", EncryptedValue: sealedA, KeyID: "6f1c1a9e-7d0e-4f3a-9c53-0d7a0a3b9f11"},
				{Service: "a", Key: "pin", EncryptedValue: sealedA, KeyID: "m", CreatedAt: at, UpdatedAt: at},
				{Service: "a", Key: "token", Deleted: true},
			},
		},
		"reseal": &Reseal{
			Epoch: "e", At: at, By: "rotation", Items: []ResealItem{{Service: "a", Key: "db.password", PrevDigest: SealedDigest("x"), EncryptedValue: sealedA, KeyID: "m2"}},
			Audit: []conf.Access{{UserID: "rotation", Action: "write", Service: "a", Success: true, Timestamp: at}},
		},
		"edit-min": &Edit{Epoch: "e", At: at, Action: ActionSchema},
		"audit":    &Audit{Rows: []conf.Access{{UserID: "", Action: "unauthorized", Service: "", Key: "", Timestamp: at}}},
		"cluster": &Cluster{
			At: at, By: "token-01234567",
			Tokens: []JoinToken{
				{ID: "k3", SecretHash: hashA, Role: conf.MemberServer, ExpiresAt: at, CreatedBy: "token-01234567", Uses: 1},
				{ID: "k4", SecretHash: hashB, Role: conf.MemberSidecar, Service: "stt-worker"},
			},
			TokenRevokes: []string{"k1", "k2"},
			Uses:         []TokenUse{{TokenID: "k3", NodeID: "node-2", KeyHash: hashB}},
			Members: []Member{
				{NodeID: "node-2", Role: conf.MemberServer, Addr: "10.0.0.2:2771", Version: "v0.3.0+<dirty>"},
				{NodeID: "node-3", Role: conf.MemberSidecar, Service: "stt-worker"},
			},
			MemberRemoves: []string{"node-0"},
			Audit:         []conf.Access{{UserID: "node-2", Action: "join", Success: true, Timestamp: at}},
		},
		"cluster-min": &Cluster{At: at},
		"cluster-key": &Cluster{At: at, Members: []Member{{NodeID: "node-2", Role: conf.MemberServer, Addr: "10.0.0.2:2771", KeyHash: hashB}}},
		"keyring": &Keyring{
			At: at, By: "token-01234567",
			Announce: []NewKey{{Kind: conf.KeySigning, ID: "0011223344556677", Public: "c2ln+/==", Proof: "cHJvb2Y="}, {Kind: conf.KeyCA, ID: hashA, Hold: true}},
			Activate: []KeyActivation{{Kind: conf.KeyMaster, ID: "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01", OldUntil: at}, {Kind: conf.KeyHMAC, ID: "5a"}},
			End:      []KeyExpiry{{Kind: conf.KeyCA, ID: hashB, NotAfter: at}},
			Audit:    []conf.Access{{UserID: "token-01234567", Action: "write", Success: true, Timestamp: at}},
		},
		"keyring-min": &Keyring{At: at},
		"digest":      &Digest{At: at, Index: 4711, Digest: hashA},
		"apitokens": &APITokens{
			At: at, By: "token-01234567",
			Create: []APIToken{
				{ID: "api-0123456789ab", Name: "ann@example.com", Role: "config.write", SecretHash: hashA, ExpiresAt: at, CreatedBy: "token-01234567"},
				{ID: "api-0123456789ac", Name: "ci", Role: "config.read", SecretHash: hashB},
			},
			Revoke: []string{"api-ffff"},
			Audit:  []conf.Access{{UserID: "token-01234567", Action: "write", Success: true, Reason: "API token", Timestamp: at}},
		},
		"audit-batch":   &Audit{Rows: []conf.Access{{UserID: "ci", Action: "read", Service: "router", Success: true, Timestamp: at}}, Source: "node-1/0123", Seq: 7},
		"prune":         &Prune{At: at, Access: at, History: hourAt, Limit: 500},
		"prune-min":     &Prune{At: at, Limit: 1},
		"apitokens-min": &APITokens{At: at},
		"reissue": &Reissue{Epoch: "5a0c3f1e", At: at, KeyID: "0011223344556677", Items: []ReissueItem{
			{Service: "router", Version: 5, Signature: "c2ln+/=="},
			{Service: "stt-worker", Version: 18446744073709551615, IssuedAt: "2026-01-02T03:04:06+00:00", Signature: "c2ln"},
		}},
		"reissue-versions": &Reissue{Epoch: "5a0c3f1e", At: at, KeyID: "0011223344556677", Items: []ReissueItem{
			{Service: "router", Version: 5, Signature: "c2ln+/==", VersionSignature: "dmVy+/=="},
			{Service: "ui-web", Version: 6, Signature: "c2ln", Replaces: "2026-01-02T04:04:06+00:00"},
		}},
		"edit-versions": &Edit{Epoch: "e", At: at, Action: ActionPut, Updates: []Update{{
			Service: "router", Version: 1, Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`), Checksum: "44136f",
			IssuedAt: at, Signature: "c2ln", KeyID: "0011223344556677", UpdatedBy: "ann", VersionSignature: "dmVy+/==",
		}}},
	}
	maps.Copy(all, rolloutSamples(at))
	return all
}

const hourAt = "2026-01-02T03:00:00+00:00"

var (
	hashA = strings.Repeat("0a", 32)
	hashB = strings.Repeat("b1", 32)

	sealedA = strings.Repeat("Ab+/", 11) + "AA=="
)

func TestGolden(t *testing.T) {
	for name, c := range samples() {
		t.Run(name, func(t *testing.T) {
			got, err := Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".golden")
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
				t.Errorf("the bytes of a log entry changed: nodes of the last release cannot read it\n got %q\nwant %q", got, want)
			}
			back, err := Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c, back); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDocumentsKeepTheirBytes(t *testing.T) {
	e := &Edit{Epoch: "e", At: "t", Action: ActionPut, Updates: []Update{{Service: "a", Version: 1, Values: json.RawMessage(awkward), Config: json.RawMessage(awkward)}}}
	data, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(awkward)) {
		t.Errorf("the document is not in the entry byte for byte: %q", data)
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(back.(*Edit).Updates[0].Config); got != awkward {
		t.Errorf("got %q, want %q", got, awkward)
	}
}

func TestDecodeTakesDocumentsAsDeepAsTheEdgeDoes(t *testing.T) {
	doc := json.RawMessage(`{"a":` + strings.Repeat("[", conf.MaxDepth) + strings.Repeat("]", conf.MaxDepth) + `}`)
	data, err := Encode(&Edit{Epoch: "e", At: "t", Action: ActionPut, Updates: []Update{{Service: "a", Version: 1, Values: doc, Config: doc}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); err != nil {
		t.Error(err)
	}
}

// What a build says that it knows is what it decodes, and each command asks for it.
func TestKnown(t *testing.T) {
	for k := range 40 {
		_, err := Decode([]byte{Version, byte(k), '{', '}'})
		knows := !errors.Is(err, ErrUnknownVersion)
		if told := Features()&(1<<k) != 0; told != knows {
			t.Errorf("kind %d: decoded %v, told %v", k, knows, told)
		}
	}
	for name, c := range samples() {
		if RequiredFeatures(c)&^Features() != 0 || RequiredFeatures(c)&(1<<40-1) != 1<<c.Kind() {
			t.Errorf("%s needs %b", name, RequiredFeatures(c))
		}
	}
	if key := samples()["cluster-key"]; RequiredFeatures(key)&FeatureMemberKey == 0 || RequiredFeatures(samples()["cluster"])&FeatureMemberKey != 0 {
		t.Error("a key of a member is what older builds cannot apply, and nothing else is")
	}
	if BaselineFeatures&^Features() != 0 {
		t.Error("this build forgot what the first one knew")
	}
}

func TestDecodeUnknownVersion(t *testing.T) {
	for _, data := range [][]byte{
		{0, 1, '{', '}'},
		{2, 1, '{', '}'},
		{255, 2},
		{1, 0, '{', '}'},
		{1, 99, '{', '}'},
		{1, 255},
		[]byte("\x01\x01" + `{"epoch":"e","at":"t","x":1}`),
		[]byte("\x01\x04" + `{"at":"t","members":[{"node_id":"a","role":"server","voter":true}]}`),
	} {
		c, err := Decode(data)
		if c != nil || !errors.Is(err, ErrUnknownVersion) || conf.CodeOf(err) != conf.CodeUnsupported || conf.HintOf(err) == "" {
			t.Errorf("Decode(%v) = %v, %v, want ErrUnknownVersion with a hint", data, c, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := `{"epoch":"e","at":"t"}`
	if _, err := Decode([]byte("\x01\x01" + good)); err != nil {
		t.Fatalf("the base of the cases is refused: %v", err)
	}
	cases := map[string]string{
		"empty":           "",
		"one byte":        "\x01",
		"no json":         "\x01\x01",
		"not an object":   "\x01\x01[]",
		"null":            "\x01\x01null",
		"duplicate":       "\x01\x01" + `{"epoch":"a","epoch":"e","at":"t"}`,
		"other case":      "\x01\x01" + `{"Epoch":"e","at":"t"}`,
		"white space":     "\x01\x01 " + good,
		"more text":       "\x01\x01" + good + "{}",
		"trailing line":   "\x01\x01" + good + "\n",
		"wrong type":      "\x01\x01" + `{"epoch":1,"at":"t"}`,
		"bad UTF-8":       "\x01\x01{\"epoch\":\"\xff\",\"at\":\"t\"}",
		"missing member":  "\x01\x01" + `{"epoch":"e"}`,
		"other order":     "\x01\x01" + `{"at":"t","epoch":"e"}`,
		"negative":        "\x01\x02" + `{"epoch":"e","at":"t","action":"put","updates":[{"service":"a","prev":-1,"version":0,"checksum":"","issued_at":"","signature":"","key_id":""}]}`,
		"loose document":  "\x01\x02" + `{"epoch":"e","at":"t","action":"put","updates":[{"service":"a","prev":0,"version":1,"values":{ },"checksum":"","issued_at":"","signature":"","key_id":""}]}`,
		"broken uses":     "\x01\x04" + `{"at":"t","tokens":[{"id":"a","secret_hash":"","role":"","uses":1.5}]}`,
		"null tokens":     "\x01\x04" + `{"at":"t","tokens":null}`,
		"kind of another": "\x01\x03" + good,
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := Decode([]byte(data))
			if err == nil {
				t.Fatalf("accepted as %+v", c)
			}
			if errors.Is(err, ErrUnknownVersion) {
				t.Errorf("a malformed entry must not look like a newer one: %v", err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	edit := func(f func(*Edit)) *Edit {
		e := &Edit{Epoch: "e", At: "t", Action: ActionPut, Updates: []Update{{Service: "a", Version: 1}}}
		f(e)
		return e
	}
	cluster := func(f func(*Cluster)) *Cluster {
		c := samples()["cluster"].(*Cluster)
		f(c)
		return c
	}
	ring := func(f func(*Keyring)) *Keyring {
		c := samples()["keyring"].(*Keyring)
		f(c)
		return c
	}
	reissue := func(f func(*Reissue)) *Reissue {
		r := samples()["reissue"].(*Reissue)
		f(r)
		return r
	}
	cases := map[string]Command{
		"reissue time":     reissue(func(r *Reissue) { r.At = "2026-01-02T03:04:05Z" }),
		"reissue of none":  reissue(func(r *Reissue) { r.Items = nil }),
		"reissue twice":    reissue(func(r *Reissue) { r.Items[1].Service = r.Items[0].Service }),
		"reissue service":  reissue(func(r *Reissue) { r.Items[0].Service = "A b" }),
		"reissue issued":   reissue(func(r *Reissue) { r.Items[1].IssuedAt = "now" }),
		"reissue no UTF-8": reissue(func(r *Reissue) { r.Items[0].Signature = "\xff" }),
		"reissue key":      reissue(func(r *Reissue) { r.KeyID = "\xff" }),
		"keyring time":     ring(func(c *Keyring) { c.At = "" }),
		"keyring kind":     ring(func(c *Keyring) { c.Announce[0].Kind = "tls" }),
		"keyring id":       ring(func(c *Keyring) { c.Announce[0].ID = "A b" }),
		"keyring no id":    ring(func(c *Keyring) { c.Activate[0].ID = "" }),
		"keyring until":    ring(func(c *Keyring) { c.Activate[0].OldUntil = "tomorrow" }),
		"keyring end":      ring(func(c *Keyring) { c.End[0].NotAfter = "" }),
		"keyring no UTF-8": ring(func(c *Keyring) { c.Announce[0].Proof = "\xff" }),
		"time":             cluster(func(c *Cluster) { c.At = "2026-01-02T03:04:05Z" }),
		"no time":          cluster(func(c *Cluster) { c.At = "" }),
		"author no UTF-8":  cluster(func(c *Cluster) { c.By = "\xff" }),
		"token id":         cluster(func(c *Cluster) { c.Tokens[0].ID = "a:b" }),
		"token secret":     cluster(func(c *Cluster) { c.Tokens[0].SecretHash = "secret" }),
		"token upper case": cluster(func(c *Cluster) { c.Tokens[0].SecretHash = strings.ToUpper(hashA) }),
		"token role":       cluster(func(c *Cluster) { c.Tokens[0].Role = "voter" }),
		"token service":    cluster(func(c *Cluster) { c.Tokens[0].Service = "A b" }),
		"token expiry":     cluster(func(c *Cluster) { c.Tokens[0].ExpiresAt = "tomorrow" }),
		"token uses":       cluster(func(c *Cluster) { c.Tokens[0].Uses = -1 }),
		"token no UTF-8":   cluster(func(c *Cluster) { c.Tokens[0].CreatedBy = "\xff" }),
		"revoked id":       cluster(func(c *Cluster) { c.TokenRevokes[0] = "" }),
		"use of no token":  cluster(func(c *Cluster) { c.Uses[0].TokenID = "" }),
		"use of no node":   cluster(func(c *Cluster) { c.Uses[0].NodeID = "../x" }),
		"use without key":  cluster(func(c *Cluster) { c.Uses[0].KeyHash = "" }),
		"member id":        cluster(func(c *Cluster) { c.Members[0].NodeID = strings.Repeat("x", 64) }),
		"member role":      cluster(func(c *Cluster) { c.Members[0].Role = "" }),
		"member service":   cluster(func(c *Cluster) { c.Members[1].Service = "A b" }),
		"member no UTF-8":  cluster(func(c *Cluster) { c.Members[0].Addr = "\xff" }),
		"removed id":       cluster(func(c *Cluster) { c.MemberRemoves[0] = "a b" }),
		"join no UTF-8":    cluster(func(c *Cluster) { c.Audit[0].UserID = "\xff" }),
		"secret in clear": edit(func(e *Edit) {
			e.Secrets = []Secret{{Service: "a", Key: "k", EncryptedValue: `"hunter2, in clear and quite long enough"`, KeyID: "m"}}
		}),
		"secret key id":     edit(func(e *Edit) { e.Secrets = []Secret{{Service: "a", Key: "k", EncryptedValue: sealedA}} }),
		"secret key":        edit(func(e *Edit) { e.Secrets = []Secret{{Service: "a", Key: "K K", EncryptedValue: sealedA, KeyID: "m"}} }),
		"secret service":    edit(func(e *Edit) { e.Secrets = []Secret{{Service: "", Key: "k", EncryptedValue: sealedA, KeyID: "m"}} }),
		"removal with text": edit(func(e *Edit) { e.Secrets = []Secret{{Service: "a", Key: "k", EncryptedValue: sealedA, Deleted: true}} }),
		"secret time": edit(func(e *Edit) {
			e.Secrets = []Secret{{Service: "a", Key: "k", EncryptedValue: sealedA, KeyID: "m", UpdatedAt: "now"}}
		}),
		"reseal of nothing": &Reseal{Epoch: "e", At: "2026-01-02T03:04:05+00:00"},
		"reseal in clear":   &Reseal{Epoch: "e", At: "2026-01-02T03:04:05+00:00", Items: []ResealItem{{Service: "a", Key: "k", PrevDigest: hashA, EncryptedValue: "hunter2", KeyID: "m"}}},
		"reseal digest":     &Reseal{Epoch: "e", At: "2026-01-02T03:04:05+00:00", Items: []ResealItem{{Service: "a", Key: "k", PrevDigest: "x", EncryptedValue: sealedA, KeyID: "m"}}},
		"reseal time":       &Reseal{Epoch: "e", At: "x", Items: []ResealItem{{Service: "a", Key: "k", PrevDigest: hashA, EncryptedValue: sealedA, KeyID: "m"}}},
		"api token time":    &APITokens{At: "now"},
		"api token id":      &APITokens{At: hourAt, Create: []APIToken{{ID: "a:b", Name: "ci", Role: "config.read", SecretHash: hashA}}},
		"api token name":    &APITokens{At: hourAt, Create: []APIToken{{ID: "a", Name: "token-x", Role: "config.read", SecretHash: hashA}}},
		"api token role":    &APITokens{At: hourAt, Create: []APIToken{{ID: "a", Name: "ci", Role: "server", SecretHash: hashA}}},
		"api token hash":    &APITokens{At: hourAt, Create: []APIToken{{ID: "a", Name: "ci", Role: "config.read", SecretHash: "x"}}},
		"api token expiry":  &APITokens{At: hourAt, Create: []APIToken{{ID: "a", Name: "ci", Role: "config.read", SecretHash: hashA, ExpiresAt: "soon"}}},
		"api token revoked": &APITokens{At: hourAt, Revoke: []string{"a b"}},
		"prune time":        &Prune{At: "now", Limit: 1},
		"prune cutoff":      &Prune{At: hourAt, Access: "2026", Limit: 1},
		"prune no limit":    &Prune{At: hourAt, Access: hourAt},
		"audit no source":   &Audit{Seq: 3},
		"nil":               nil,
		"loose document":    edit(func(e *Edit) { e.Updates[0].Config = json.RawMessage(`{"a": 1}`) }),
		"broken document":   edit(func(e *Edit) { e.Updates[0].Values = json.RawMessage(`{`) }),
		"document no UTF-8": edit(func(e *Edit) { e.Updates[0].Values = json.RawMessage("{\"a\":\"\xff\"}") }),
		"service name":      edit(func(e *Edit) { e.Updates[0].Service = "A b" }),
		"schema empty":      edit(func(e *Edit) { e.Schemas = []Schema{{Service: "a"}} }),
		"schema loose":      edit(func(e *Edit) { e.Schemas = []Schema{{Service: "a", Schema: json.RawMessage(`{} `)}} }),
		"schema service":    edit(func(e *Edit) { e.Schemas = []Schema{{Service: "", Schema: json.RawMessage(`{}`)}} }),
		"profile name":      edit(func(e *Edit) { e.Profiles = []Profile{{Name: "../x"}} }),
		"profile values":    edit(func(e *Edit) { e.Profiles = []Profile{{Name: "x", Services: map[string]json.RawMessage{"a": nil}}} }),
		"reason no UTF-8":   edit(func(e *Edit) { e.Reason = "\xff" }),
		"access no UTF-8":   &Audit{Rows: []conf.Access{{UserID: "\xff"}}},
		"genesis no UTF-8":  &Genesis{Epoch: "\xff"},
	}
	maps.Copy(cases, badRollouts())
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if data, err := Encode(c); err == nil {
				t.Errorf("accepted as %q", data)
			}
		})
	}
}

func TestSizeLimit(t *testing.T) {
	big := json.RawMessage(`"` + strings.Repeat("x", MaxSize) + `"`)
	_, err := Encode(&Edit{Epoch: "e", At: "t", Action: ActionPut, Updates: []Update{{Service: "a", Version: 1, Values: big}}})
	if conf.CodeOf(err) != conf.CodeTooLarge {
		t.Errorf("Encode: %v, want %s", err, conf.CodeTooLarge)
	}
	data := append([]byte{Version, byte(KindAudit)}, big...)
	if _, err := Decode(data); conf.CodeOf(err) != conf.CodeTooLarge {
		t.Errorf("Decode: %v, want %s", err, conf.CodeTooLarge)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		data, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x01\x01{}"))
	f.Add([]byte("\x02\x01{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			if c != nil {
				t.Fatal("a command beside an error")
			}
			return
		}
		again, err := marshal(c)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("encoded again: %q, %v, want %q", again, err, data)
		}
	})
}

// TestAnyKeysNeedTheirBit keeps a schema with x-keys out of the log while a voter would
// not compile it.
func TestAnyKeysNeedTheirBit(t *testing.T) {
	for text, want := range map[string]bool{`{"x-keys":"any"}`: true, `{"type":"object"}`: false} {
		c := &Edit{Schemas: []Schema{{Service: "a", Schema: []byte(text)}}}
		if got := RequiredFeatures(c)&(1<<49) != 0; got != want {
			t.Errorf("%s needs %b", text, RequiredFeatures(c))
		}
	}
}
