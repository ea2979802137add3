package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

func streamOf(tb testing.TB, s *Store) []byte {
	tb.Helper()
	sn, err := s.Snapshot(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	defer sn.Close()
	var b bytes.Buffer
	n, err := sn.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		tb.Fatalf("WriteTo = %d, %v, wrote %d", n, err, b.Len())
	}
	return b.Bytes()
}

func filled(t *testing.T, n int) (*Store, *driver) {
	t.Helper()
	s := openNew(t)
	d := newDriver(t, s)
	for _, c := range story(d, n) {
		d.apply(c)
	}
	return s, d
}

func TestSnapshotRestore(t *testing.T) {
	s, d := filled(t, 150)
	data := streamOf(t, s)
	want := content(t, s)

	other := openNew(t)
	od := newDriver(t, other)
	od.ok(od.edit(command.ActionPut, put("left-over", 0, `{"a":1}`)))
	if err := other.Restore(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	same(t, "restored", want, content(t, other))
	if err := other.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(data, streamOf(t, other)) {
		t.Error("the snapshot of the restored store differs from the one it was restored from")
	}

	// Both go on in the same way, row ids of the logs included.
	more := story(d, 60)
	next := d.index
	for i, c := range more {
		e := []apply.Entry{{Index: next + uint64(i) + 1, Term: 2, Command: c}}
		r1, _, err1 := s.Apply(t.Context(), e)
		r2, _, err2 := other.Apply(t.Context(), e)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		same(t, "results", r1, r2)
	}
	same(t, "after more", content(t, s), content(t, other))
	path := other.file.path
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "after a restart", content(t, s), content(t, openAt(t, path)))
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".restore-*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestSnapshotIsPinned(t *testing.T) {
	s, d := filled(t, 30)
	want := streamOf(t, s)
	sn, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	index, term := s.Applied()
	if sn.Index() != index || sn.Term() != term || sn.st.Epoch != testEpoch || sn.st.Digest.String() != s.Digest() {
		t.Errorf("snapshot of %d/%d %s, store has %d/%d", sn.Index(), sn.Term(), sn.st.Epoch, index, term)
	}
	for _, c := range story(d, 30) {
		d.apply(c)
	}
	if err := s.checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := sn.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got.Bytes()) {
		t.Error("later writes are in the snapshot")
	}
	if err := errors.Join(sn.Close(), sn.Close()); err != nil {
		t.Error("Close must be harmless twice")
	}
	if _, err := sn.WriteTo(&got); err == nil {
		t.Error("WriteTo after Close")
	}
}

func TestSnapshotHasNoDerivedRows(t *testing.T) {
	s, _ := filled(t, 30)
	for line := range strings.Lines(string(streamOf(t, s))) {
		var head struct{ Table string }
		if json.Unmarshal([]byte(line), &head) == nil && (strings.Contains(head.Table, "item") || head.Table == "meta") {
			t.Errorf("the snapshot holds %s", head.Table)
		}
	}
}

func TestRestoreRefusesWhatIsDamaged(t *testing.T) {
	s, _ := filled(t, 40)
	data := streamOf(t, s)
	target, _ := filled(t, 25)
	want := content(t, target)
	refused := func(name string, bad []byte) {
		t.Helper()
		if err := target.Restore(t.Context(), bytes.NewReader(bad)); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: %v, want %s", name, err, conf.CodeCorrupt)
		}
	}
	step := max(1, len(data)/60)
	for i := 0; i < len(data); i += step {
		refused(fmt.Sprintf("cut at %d", i), data[:i])
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		refused(fmt.Sprintf("flip at %d", i), bad)
	}
	refused("one byte short", data[:len(data)-1])
	refused("something after it", append(bytes.Clone(data), "{}\n"...))
	refused("twice", append(bytes.Clone(data), data...))
	same(t, "after rejected restores", want, content(t, target))
	if err := target.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if err := target.Restore(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatalf("the undamaged stream: %v", err)
	}
	same(t, "restored", content(t, s), content(t, target))
}

// reseal gives a stream that somebody changed its trailer, as a bug in a writer
// would: what is wrong must then show in the rows.
func reseal(t *testing.T, data []byte, old, repl string) []byte {
	t.Helper()
	body := string(data[:bytes.LastIndex(data[:len(data)-1], []byte("\n"))+1])
	changed := strings.Replace(body, old, repl, 1)
	if changed == body {
		t.Fatalf("%q is not in the stream", old)
	}
	return trailed(changed)
}

func trailed(body string) []byte {
	h := sha256.New()
	h.Write([]byte(body))
	return fmt.Appendf(nil, "%s{\"sha256\":\"%x\"}\n", body, h.Sum(nil))
}

func TestRestoreRejectsWrongRows(t *testing.T) {
	s, _ := filled(t, 60)
	data := streamOf(t, s)
	target, _ := filled(t, 25)
	want := content(t, target)
	if err := openNew(t).Restore(t.Context(), bytes.NewReader(reseal(t, data, `"term":1`, `"term":3`))); err != nil {
		t.Fatalf("a harmless change must pass, or this test proves nothing: %v", err)
	}
	for name, bad := range map[string][]byte{
		"a value":       reseal(t, data, `because`, `Because`),
		"format":        reseal(t, data, `holdfast-snapshot`, `something-else`),
		"digest":        reseal(t, data, `"state_digest":"`, `"state_digest":"0`),
		"table":         reseal(t, data, `"table":"profiles"`, `"table":"meta"`),
		"columns":       reseal(t, data, `"columns":["name","description"`, `"columns":["description","name"`),
		"more rows":     reseal(t, data, `"table":"config_history","columns":`, `"table":"access_log","columns":`),
		"header only":   trailed(`{"format":"holdfast-snapshot","version":1,"tables":1}` + "\n"),
		"not JSON":      trailed("nonsense\n"),
		"nothing":       trailed(""),
		"missing table": trailed(`{"format":"holdfast-snapshot","version":1,"tables":0,"state_digest":"ff"}` + "\n"),
	} {
		if err := target.Restore(t.Context(), bytes.NewReader(bad)); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: %v, want %s", name, err, conf.CodeCorrupt)
		}
	}
	newer := reseal(t, data, `"version":1`, `"version":2`)
	if err := target.Restore(t.Context(), bytes.NewReader(newer)); conf.CodeOf(err) != conf.CodeUnsupported {
		t.Errorf("a newer version: %v, want %s", err, conf.CodeUnsupported)
	}
	same(t, "after rejected restores", want, content(t, target))
	if err := target.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSnapshotOfDamagedStoreFails(t *testing.T) {
	s, _ := filled(t, 40)
	w := s.w
	if err := w.Exec(t.Context(), "UPDATE config_history SET new_value_json = '42' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	sn, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	if _, err := sn.WriteTo(&bytes.Buffer{}); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("WriteTo = %v, want %s", err, conf.CodeCorrupt)
	}
}

func TestRestoreKeepsModes(t *testing.T) {
	s, _ := filled(t, 5)
	for _, p := range []string{s.file.path, s.file.walPath(), s.file.path + "-shm"} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", p, st.Mode().Perm())
		}
	}
	st, err := os.Stat(filepath.Dir(s.file.path))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", st.Mode(), err)
	}
}
