package command

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// FuzzFast checks that the fast codec and encoding/json agree on every byte and every error.
func FuzzFast(f *testing.F) {
	for _, c := range samples() {
		data, err := marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, e := range ordinary() {
		data, err := marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 || data[0] != Version || Kind(data[1]) != KindEdit {
			return
		}
		slow, err := slowDecode(data)
		if fast, ok := fastDecode(data); ok {
			if err != nil {
				t.Fatalf("%q is accepted fast, and slowly: %v", data, err)
			}
			if diff := cmp.Diff(slow, Command(fast)); diff != "" {
				t.Fatalf("%q (-slow +fast):\n%s", data, diff)
			}
		}
		if err != nil {
			return
		}
		if again, ok := fastEncode(slow.(*Edit)); ok && !bytes.Equal(again, data) {
			t.Fatalf("%q is encoded fast as %q", data, again)
		}
	})
}

func ordinary() []*Edit {
	row := conf.Access{UserID: "ann", Action: "write", Service: "a", Success: true, Reason: "patch: because", Timestamp: "2026-01-02T03:04:05+00:00"}
	u := Update{
		Service: "a", Prev: 41, Version: 42, Values: json.RawMessage(`{"a":1.5e-7,"b":[true,false,null,""],"c":{}}`), Config: json.RawMessage(`{"a":-0.5}`),
		Checksum: "c", IssuedAt: "t", Signature: "s+/=", KeyID: "k",
	}
	d := Update{Service: "b", Prev: 1, Version: 2, Checksum: "c", IssuedAt: "t", Signature: "s", KeyID: "k", Deleted: true, UpdatedAt: "t", UpdatedBy: "bob"}
	return []*Edit{
		{Epoch: "e", At: "t", Action: ActionPut},
		{ID: "ann/1", Epoch: "e", At: "t", By: "ann", Reason: "because", Action: ActionPatch, Updates: []Update{u}, Audit: []conf.Access{row}},
		{Epoch: "e", At: "t", Action: ActionDelete, Updates: []Update{d, u}, Audit: []conf.Access{row, row}},
	}
}

// What is ordinary must take the fast way, both ways.
func TestOrdinaryEditsAreFast(t *testing.T) {
	for _, e := range ordinary() {
		slow, err := marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := fastEncode(e)
		if !ok || !bytes.Equal(data, slow) {
			t.Errorf("%t\n%s\n%s", ok, data, slow)
		}
		back, ok := fastDecode(slow)
		if diff := cmp.Diff(e, back); !ok || diff != "" {
			t.Errorf("%t\n%s", ok, diff)
		}
	}
	for _, reason := range []string{`say "no"`, "a\\b", "é", "tab\t", "<b>"} {
		e := ordinary()[1]
		e.Reason = reason
		data, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if slow, _ := marshal(e); !bytes.Equal(data, slow) {
			t.Errorf("%q: %s, want %s", reason, data, slow)
		}
		if back, err := Decode(data); err != nil || back.(*Edit).Reason != reason {
			t.Errorf("%q: %v, %v", reason, back, err)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	e := ordinary()[1]
	doc := []byte(`{"key_00":100000000`)
	for range 50 {
		doc = append(doc, `,"another_key":100000000`...)
	}
	e.Updates[0].Values, e.Updates[0].Config = append(doc, '}'), append(doc, '}')
	data, err := Encode(e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := Encode(e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode with encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := slowDecode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
