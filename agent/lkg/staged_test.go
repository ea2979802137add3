package lkg_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func revert() *conf.SignedVersion {
	r := record("stt-worker", 4, `{"a":1}`)
	return &conf.SignedVersion{
		Version: 4, Values: r.Values, Config: r.Config, Checksum: r.Checksum, IssuedAt: r.IssuedAt, Signature: r.Signature, KeyID: r.KeyID, VersionSignature: "vs",
	}
}

// stagedSample is sample with a service that serves a candidate, and one that is held back
// while its stable version is deleted.
func stagedSample() *lkg.Content {
	c := sample()
	stable := record("stt-worker", 2, `{"vad_threshold":0.25}`)
	stable.Schema, stable.Secrets = json.RawMessage(`{"type":"object"}`), []conf.SealedSecret{{Key: "token", Value: "BBBB", KeyID: "k", CreatedAt: "c", UpdatedAt: "u"}}
	gone := record("old-epoch", 9, `{}`)
	gone.Deleted, gone.Values = true, nil
	c.Staged = map[string]*lkg.Staged{
		"stt-worker": {Stable: stable, Revert: revert(), Candidate: true, Rollout: "stt-worker-3-abcdef", At: "2026-01-02T03:04:05+00:00", By: `an "author"`},
		"old-epoch":  {Stable: gone},
	}
	return c
}

func TestStagedRoundTrip(t *testing.T) {
	want := stagedSample()
	got, err := lkg.Load(write(t, encode(t, want)), macKey)
	if err != nil {
		t.Fatal(err)
	}
	got.Journal = nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got.Staged["stt-worker"], want.Staged["stt-worker"])
	}
	if again := encode(t, got); !bytes.Equal(again, encode(t, want)) {
		t.Error("it is written in another form")
	}
	// The parts that nothing is staged of are as builds without rollouts write them.
	want.Staged = nil
	if bytes.Contains(encode(t, want), []byte(`"staged"`)) {
		t.Error("a file without rollouts names them")
	}
}

// Any changed byte rejects the file, and so does what a damaged writer would have signed.
func TestStagedEveryByte(t *testing.T) {
	good := encode(t, stagedSample())
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := decode(bad); err == nil {
			t.Fatalf("byte %d of %d was changed, and the file is accepted", i, len(good))
		}
	}
	wrong := stagedSample()
	wrong.Staged["stt-worker"].Revert.Config = json.RawMessage(`{"a":2}`)
	if _, err := decode(encode(t, wrong)); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a revert that does not match its checksum: %v", err)
	}
	wrong = stagedSample()
	wrong.Staged["stt-worker"].Stable.Config = json.RawMessage(`{"a":2}`)
	if _, err := decode(encode(t, wrong)); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a stable document that does not match its checksum: %v", err)
	}
}

// What this agent changes alone has the index of what it changes: it is found behind a file
// that has that index already, and in the journal of a file that was being written meanwhile.
func TestChangeOfThisAgentAlone(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	path := filepath.Join(t.TempDir(), "config.lkg.json")
	first := &lkg.Content{Epoch: epoch, GeneratedAt: start, Index: 10, Records: []*conf.Record{record("stt-worker", 3, `{"a":0}`)}}
	first.Staged = map[string]*lkg.Staged{"stt-worker": {Revert: revert(), Candidate: true, Rollout: "r"}}
	w := lkg.NewWriter(path, macKey, nil, log, lkg.WriterOptions{})
	if err := w.Save(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	back := record("stt-worker", 4, `{"a":1}`)
	if !w.AppendStaged(epoch, 10, 10, []*conf.Record{back}, nil) {
		t.Fatal("the journal does not take it")
	}
	if err := w.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds := func(what string) {
		t.Helper()
		c, err := lkg.Load(path, macKey)
		if err != nil || c.Journal.Err != nil {
			t.Fatal(err, c.Journal.Err)
		}
		if rec := c.Records[len(c.Records)-1]; rec.Version != 4 || c.Staged["stt-worker"] != nil {
			t.Fatalf("%s: version %d, %+v", what, rec.Version, c.Staged["stt-worker"])
		}
	}
	holds("behind the file")
	// A file of what was served before takes the place of the first.
	if err := w.Rewrite(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	holds("behind the next file")
	// The same, not written again by an older record of that index.
	if w.AppendStaged(epoch, 10, 11, []*conf.Record{record("other", 1, `{}`)}, nil); w.Sync(t.Context()) != nil {
		t.Fatal("not synced")
	}
	holds("with a later change")
}
