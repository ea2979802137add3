package served_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// What is neither rolled out nor refused is one record, in both views.
func TestBothViewsHaveOneRecord(t *testing.T) {
	t.Parallel()
	a := start(t, t.TempDir())
	a.reset(10, stable("e1", 7, 1, 0))
	a.Advance(11, []*conf.Record{stable("e1", 8, 2, 0)})
	one, _ := a.Views().Stable.Get("stt")
	other, _ := a.Views().Served.Get("stt")
	if one.Record != other.Record || one.Record.Version != 8 {
		t.Fatalf("%p %p", one.Record, other.Record)
	}
	if st := a.State("stt"); st.CanRefuse || st.Mark != nil || st.Joined != 10 {
		t.Fatalf("%+v", st)
	}
	err := a.refuse("e1", 8)
	if conf.CodeOf(err) != conf.CodeConflict || conf.HintOf(err) == "" {
		t.Fatalf("a stable version was refused: %v", err)
	}
}

// A target serves the candidate, and goes on to the revert by itself.
func TestRefusal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	a.reset(10, v7)
	a.flush()
	r := rolling(v7, 8, 2, all, 11)
	a.Advance(11, []*conf.Record{r})
	a.serves(8, 2, "candidate")
	a.stableIs(7, 1)
	if st := a.State("stt"); st.Rollout != "stt-8-abcdef" || !st.CanRefuse {
		t.Fatalf("%+v", st)
	}
	for _, no := range []struct {
		epoch   string
		version uint64
	}{{"e1", 7}, {"e1", 9}, {"e2", 8}} {
		if err := a.refuse(no.epoch, no.version); conf.CodeOf(err) != conf.CodeConflict {
			t.Fatalf("refused version %d of %s: %v", no.version, no.epoch, err)
		}
	}
	woken := a.Changed()
	a.mustRefuse("e1", 8)
	select {
	case <-woken:
	default:
		t.Error("nobody is told of the refusal")
	}
	a.serves(9, 1, "")
	a.stableIs(7, 1)
	a.mustRefuse("e1", 8) // again
	m := a.State("stt").Mark
	if m == nil || m.Refused != 8 || m.Revert.Version != 9 || m.Verdict.Reason != "port in use" || m.Verdict.At == "" {
		t.Fatalf("%+v", m)
	}
	rec := a.State("stt").Record
	if len(rec.Secrets) != 1 || len(rec.Schema) == 0 || rec.UpdatedBy != "eve" {
		t.Errorf("the revert has not all of the stable record: %+v", rec)
	}
	// The process is killed; there is no replica.
	a = start(t, dir)
	a.serves(9, 1, "")
	a.stableIs(7, 1)
	if st := a.State("stt"); st.Mark == nil || st.Rollout != "stt-8-abcdef" {
		t.Fatalf("%+v", st)
	}
	a.mustRefuse("e1", 8)
	if recs := a.Rebuilt(); len(recs) != 1 || contentOf(t, recs[0]) != 1 {
		t.Errorf("a rebuild begins with %+v", recs)
	}
	// Promoted all the same: it is held back until another version.
	p := promoted(r)
	a.reset(12, p)
	a.serves(9, 1, "")
	a.stableIs(8, 2)
	if recs := a.Rebuilt(); contentOf(t, recs[0]) != 1 {
		t.Error("a rebuild takes what was refused here")
	}
	// The next rollout passes it by, and the rollback of it does not bring back what was refused.
	next := rolling(p, 10, 3, all, 13)
	a.Advance(13, []*conf.Record{next})
	a.serves(9, 1, "")
	back := rolledBack(next)
	a.Advance(14, []*conf.Record{back})
	a.serves(9, 1, "")
	a.stableIs(11, 2)
	a.Advance(15, []*conf.Record{edited(back, 4)})
	a.serves(12, 4, "")
	if a.State("stt").Mark != nil {
		t.Error("it is still held back")
	}
	if _, err := os.Stat(filepath.Join(dir, "marks", "stt.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mark is still there: %v", err)
	}
	start(t, dir).serves(12, 4, "")
}

// After the promotion the right to go on to the revert stays, where it was served before.
func TestRefusalAfterThePromotion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{r})
	a.Advance(12, []*conf.Record{promoted(r)})
	a.serves(8, 2, "")
	a = start(t, dir)
	a.serves(8, 2, "")
	a.mustRefuse("e1", 8)
	a.serves(9, 1, "")
	a.stableIs(8, 2)
	// Another agent got it as a stable version.
	b := start(t, t.TempDir())
	b.reset(10, v7)
	b.Advance(12, []*conf.Record{promoted(r)})
	if err := b.refuse("e1", 8); conf.CodeOf(err) != conf.CodeConflict {
		t.Fatal(err)
	}
}

// A rollback makes the revert stable; then nothing is held back.
func TestRollback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{r})
	a.mustRefuse("e1", 8)
	a.Advance(12, []*conf.Record{rolledBack(r)})
	a.serves(9, 1, "")
	a.stableIs(9, 1)
	one, _ := a.Views().Stable.Get("stt")
	if st := a.State("stt"); st.Mark != nil || st.Record.Version != one.Record.Version {
		t.Fatalf("%+v", st)
	}
}

// An agent is no target of a step that ran before it joined, and may be one of the next.
func TestJoiners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a := start(t, dir)
	// A store that was copied in part, before it has caught up.
	a.Reset("replica", "e1", 10, []*conf.Record{v7}, false)
	a.Advance(11, []*conf.Record{r})
	a.serves(7, 1, "")
	a.reset(20, r)
	a.serves(7, 1, "")
	if j := a.State("stt").Joined; j != 20 {
		t.Fatalf("joined at %d", j)
	}
	a = start(t, dir)
	a.reset(21, r)
	a.serves(7, 1, "")
	if j := a.State("stt").Joined; j != 20 {
		t.Fatalf("joined at %d after a restart", j)
	}
	a.Advance(22, []*conf.Record{rolling(v7, 8, 2, all, 22)})
	a.serves(8, 2, "candidate")
	// A service that acknowledges is one more.
	if err := a.Join(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(start(t, dir).Services(), " "); got != "other stt" || a.State("other").Joined != 22 {
		t.Fatalf("instance of %s, since %d", got, a.State("other").Joined)
	}
	// No instance, no target.
	b := start(t, t.TempDir(), func(o *served.Options) { o.Services = nil })
	b.reset(10, v7)
	b.Advance(11, []*conf.Record{r})
	b.serves(7, 1, "")
}

// A build without marks has written the file: its agent is no joiner.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	a.reset(10, v7)
	a.flush()
	if err := os.RemoveAll(filepath.Join(dir, "marks")); err != nil {
		t.Fatal(err)
	}
	a = start(t, dir)
	a.reset(12, rolling(v7, 8, 2, all, 11))
	a.serves(8, 2, "candidate")
}

// The file of an agent that serves a candidate has the candidate, its revert and what is
// stable, also without the journal, and after the loss of either file it does not go back.
func TestFileOfACandidate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{r})
	a.flush()
	if _, err := os.Stat(filepath.Join(dir, "config.lkg.journal")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("there is a journal: %v", err)
	}
	a = start(t, dir, func(o *served.Options) { o.Instance = func() string { return "renamed" } })
	a.serves(8, 2, "candidate")
	a.stableIs(7, 1)
	if recs := a.Rebuilt(); contentOf(t, recs[0]) != 1 {
		t.Error("a rebuild takes the candidate")
	}
	// It keeps what it took, whatever the targets are now.
	none := rolling(v7, 8, 2, nil, 12)
	a.reset(12, none)
	a.serves(8, 2, "candidate")
	// The database fell back to before the start.
	a = start(t, dir)
	a.reset(10, v7)
	a.serves(8, 2, "candidate")
	a.mustRefuse("e1", 8)
	a.serves(9, 1, "")
	// The file is lost, and the mark decides.
	if err := os.WriteFile(filepath.Join(dir, "config.lkg.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = start(t, dir)
	a.reset(12, r)
	a.serves(9, 1, "")
}

// A candidate is not served before it is on the disk.
func TestCandidateWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a.reset(10, v7)
	a.flush()
	a.journal.broken = true
	a.Advance(11, []*conf.Record{r})
	a.serves(7, 1, "")
	a.Retry()
	if n := strings.Count(a.log.String(), alarm.CandidateWaits.Text); n != 1 {
		t.Errorf("%d lines say why:\n%s", n, a.log)
	}
	a.journal.broken = false
	a.Retry()
	a.serves(8, 2, "candidate")
	if !strings.Contains(a.log.String(), alarm.CandidateWaits.End) {
		t.Error("nothing says that it is over")
	}
	start(t, dir).serves(8, 2, "candidate")
}

// What a leader did not sign is not served.
func TestForgedCandidate(t *testing.T) {
	t.Parallel()
	for _, version := range []uint64{8, 9} {
		bad := true
		a := start(t, t.TempDir(), func(o *served.Options) {
			o.Verify = func(rec *conf.Record) error {
				if rec.Version == version && bad {
					return errors.New("forged")
				}
				return nil
			}
		})
		v7 := stable("e1", 7, 1, 0)
		r := rolling(v7, 8, 2, all, 11)
		a.reset(10, v7)
		a.Advance(11, []*conf.Record{r})
		a.serves(7, 1, "")
		if !strings.Contains(a.log.String(), alarm.CandidateWrong.Text) {
			t.Error("nothing says why")
		}
		bad = false
		a.Advance(12, []*conf.Record{rolling(v7, 8, 2, all, 11)})
		a.serves(8, 2, "candidate")
		if !strings.Contains(a.log.String(), alarm.CandidateWrong.End) {
			t.Error("nothing says that it is over")
		}
	}
}

// A refusal that cannot be written is not answered, and changes nothing.
func TestRefusalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{rolling(v7, 8, 2, all, 11)})
	if err := os.RemoveAll(filepath.Join(dir, "marks")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "marks"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.refuse("e1", 8); err == nil || conf.HintOf(err) == "" {
		t.Fatalf("err %v", err)
	}
	a.serves(8, 2, "candidate")
	if !strings.Contains(a.log.String(), alarm.MarkUnwritten.Text) {
		t.Error("nothing says so")
	}
	if err := os.Remove(filepath.Join(dir, "marks")); err != nil {
		t.Fatal(err)
	}
	a.mustRefuse("e1", 8)
	a.serves(9, 1, "")
	if !strings.Contains(a.log.String(), alarm.MarkUnwritten.End) {
		t.Error("nothing says that it is over")
	}
}

// A mark with one changed byte is set aside, and does not stop anything.
func TestDamagedMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	r := rolling(v7, 8, 2, all, 11)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{r})
	a.flush()
	a.mustRefuse("e1", 8)
	path := filepath.Join(dir, "marks", "stt.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := [][]byte{testKey}
	read := func(data []byte) served.Marks {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return served.LoadMarks(filepath.Dir(path), keys, a.Logger())
	}
	if m := read(good)["stt"]; m == nil || !bytes.Equal(m.Revert.Config, document(1)) {
		t.Fatalf("%+v", m)
	}
	for i := range bytes.TrimSpace(good) {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if len(read(bad)) != 0 {
			t.Fatalf("byte %d was changed, and the mark is used", i)
		}
	}
	if len(read(good[:len(good)/2])) != 0 || len(read(nil)) != 0 {
		t.Fatal("half of a mark is used")
	}
	b := start(t, dir)
	if _, err := os.Stat(path + ".damaged"); err != nil || !strings.Contains(b.log.String(), alarm.MarkDamaged.Text) {
		t.Fatalf("it was not set aside: %v", err)
	}
	b.serves(9, 1, "") // the file has it too
	c, err := lkg.Load(filepath.Join(dir, "config.lkg.json"), testKey)
	if err != nil {
		t.Fatal(err)
	}
	// An agent that cannot start chooses in the same way, and writes nothing.
	read(good)
	marks := served.LoadMarks(filepath.Dir(path), keys, a.Logger())
	if recs := served.FromFile(c, marks); len(recs) != 1 || recs[0].Version != 9 {
		t.Fatalf("%+v", recs)
	}
}

// A mark and the file follow a rotation of their key.
func TestRekey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{rolling(v7, 8, 2, all, 11)})
	a.mustRefuse("e1", 8)
	next := bytes.Repeat([]byte{7}, 32)
	if err := a.Rekey(next); err != nil {
		t.Fatal(err)
	}
	marks := served.LoadMarks(filepath.Join(dir, "marks"), [][]byte{next}, a.Logger())
	if marks["stt"] == nil {
		t.Fatal("the mark is under the old key")
	}
}

// A new epoch ends all that was refused in the one before.
func TestNewEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, dir)
	v7 := stable("e1", 7, 1, 0)
	a.reset(10, v7)
	a.Advance(11, []*conf.Record{rolling(v7, 8, 2, all, 11)})
	a.mustRefuse("e1", 8)
	a.reset(3, stable("e2", 1, 2, 0))
	a.serves(1, 2, "")
	if a.State("stt").Mark != nil || a.State("stt").Joined != 3 {
		t.Errorf("%+v", a.State("stt"))
	}
	a = start(t, dir)
	a.serves(1, 2, "")
	if len(served.LoadMarks(filepath.Join(dir, "marks"), [][]byte{testKey}, a.Logger())) != 0 {
		t.Error("the mark outlives its epoch")
	}
}
