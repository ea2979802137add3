package testenv

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// ledger is what the writers of one key know of its service. Every value is
// written by one request only.
type ledger struct {
	service, key string
	format       string // of the JSON text of value number n

	mu      sync.Mutex
	first   uint64
	highest uint64             // highest acknowledged version
	acked   map[uint64]string  // version -> value
	maybe   map[string]attempt // values whose outcome is unknown
}

// attempt is a write that can be repeated as it was.
type attempt struct{ expect uint64 }

// send makes one write and notes what came of it. It returns the version to
// build on, or false when the outcome is not known, as when the agent is gone.
func (l *ledger) send(t *testing.T, a *Agent, value string, expect uint64, conflicts *atomic.Int64) (uint64, bool) {
	l.mu.Lock()
	l.maybe[value] = attempt{expect}
	l.mu.Unlock()
	r := a.Admin("PATCH", "/api/config/services/"+l.service, fmt.Sprintf(`{%q:%s}`, l.key, value),
		fmt.Sprintf(`If-Match: "%d"`, expect), "Idempotency-Key: "+l.service+"-"+strings.Trim(value, `"`))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.Err == nil && r.Status == 200:
		var out struct {
			NewVersion uint64 `json:"new_version"`
		}
		if json.Unmarshal(r.Body, &out) != nil {
			return 0, false // cut off: unknown
		}
		if old, ok := l.acked[out.NewVersion]; ok && old != value {
			t.Errorf("version %d of %s was acknowledged for %s and for %s", out.NewVersion, l.service, old, value)
		}
		l.acked[out.NewVersion] = value
		l.highest = max(l.highest, out.NewVersion)
		delete(l.maybe, value)
		return out.NewVersion, true
	case r.Err == nil && r.Status == 409: // a refusal is certain
		conflicts.Add(1)
		delete(l.maybe, value)
		return r.Failure().CurrentVersion, true
	case r.Err == nil && r.Status/100 != 5:
		t.Errorf("writing %s=%s: %s", l.key, value, r)
	}
	return 0, false // killed, or about to be: unknown
}

// write changes the key again and again, each time on top of the version that it
// saw last.
func (l *ledger) write(t *testing.T, a *Agent, sequence *atomic.Int64, stop <-chan struct{}, conflicts *atomic.Int64) {
	l.mu.Lock()
	expect := l.highest
	l.mu.Unlock()
	for {
		version, ok := l.send(t, a, fmt.Sprintf(l.format, sequence.Add(1)), expect, conflicts)
		pause := time.Duration(0)
		if ok {
			expect = version
		} else {
			pause = 100 * time.Millisecond // killed, or busy for a moment
		}
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// repeat sends every write of unknown outcome again, as a careful client does,
// with the id that it had.
func (l *ledger) repeat(t *testing.T, a *Agent, conflicts *atomic.Int64) (repeated int) {
	l.mu.Lock()
	again := maps.Clone(l.maybe)
	l.mu.Unlock()
	for value, at := range again {
		if !poll(Patience, func() bool { _, ok := l.send(t, a, value, at.expect, conflicts); return ok }) {
			t.Errorf("the repeated write of %s=%s got no answer", l.key, value)
		}
	}
	return len(again)
}

// check compares what the agent serves with the ledger.
func (l *ledger) check(t *testing.T, a *Agent, source string) {
	t.Helper()
	d := a.Document(l.service)
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Metadata.Version < l.highest && d.Source == source {
		t.Fatalf("%s is at version %d, but version %d was acknowledged", l.service, d.Metadata.Version, l.highest)
	}
	l.settle(t, d.Metadata.Version, jsonText(d.Values[l.key]))
}

// settle requires that value may stand at version.
func (l *ledger) settle(t *testing.T, version uint64, value string) {
	t.Helper()
	_, unknown := l.maybe[value]
	switch want, ok := l.acked[version]; {
	case ok && value != want:
		t.Fatalf("%s version %d has %s=%s, but %s was acknowledged", l.service, version, l.key, value, want)
	case !ok && !unknown:
		t.Fatalf("%s version %d has %s=%s, which nobody wrote there", l.service, version, l.key, value)
	}
}

// TestKillLoop kills the agent again and again while several writers write. What
// was acknowledged is there after every start, at its version and with its value;
// a write of unknown outcome can be repeated; the last-known-good file is whole;
// and the history at the end tells every change once and in order.
func TestKillLoop(t *testing.T) {
	t.Parallel()
	restarts := 100
	if testing.Short() {
		restarts = 25
	}
	a := StartProcess(t)
	ledgers := []*ledger{
		{service: "stt-worker", key: "sample_rate", format: "%d"},
		{service: "tts-worker", key: "piper_voice", format: `"voice-%d"`},
		{service: "router", key: "router_stream_max_chars", format: "%d"},
	}
	for _, l := range ledgers {
		d := a.Document(l.service)
		l.first, l.highest = d.Metadata.Version, d.Metadata.Version
		l.acked, l.maybe = map[uint64]string{l.first: jsonText(d.Values[l.key])}, map[string]attempt{}
	}
	var sequence, conflicts atomic.Int64
	sequence.Store(100_000) // far from every default
	repeated, fromLKG := 0, 0
	started := time.Now()
	for round := range restarts {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		before := acknowledged(ledgers)
		for _, l := range ledgers {
			for range 2 { // two writers a service: they get into each other's way
				writers.Go(func() { l.write(t, a, &sequence, stop, &conflicts) })
			}
		}
		enough := before + 1 + rand.IntN(40)
		Await(t, "a few writes", func() bool { return acknowledged(ledgers) >= enough })
		a.Kill()
		close(stop)
		writers.Wait()

		checkLKG(t, a)
		a.Start()
		if a.AwaitServing(ledgers[0].service).Source == "lkg" {
			fromLKG++
		}
		for _, l := range ledgers { // what it serves first may be old, but was once written
			l.check(t, a, "replica")
		}
		a.AwaitNormal()
		for _, l := range ledgers {
			l.check(t, a, "replica")
			repeated += l.repeat(t, a, &conflicts)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
	took := time.Since(started)
	rows := 0
	for _, l := range ledgers {
		rows += checkHistory(t, a, l)
	}
	n := acknowledged(ledgers)
	t.Logf("%d kills in %v (%v each): %d acknowledged writes, none lost; %d of unknown outcome repeated; %d conflicts; %d rows of history; %d starts seen on the last-known-good file",
		restarts, took.Round(time.Second), (took / time.Duration(restarts)).Round(time.Millisecond), n, repeated, conflicts.Load(), rows, fromLKG)
	if n < 5*restarts || repeated < restarts/4 || conflicts.Load() == 0 {
		t.Errorf("%d acknowledged writes, %d repeated, %d conflicts: the test did not stress anything", n, repeated, conflicts.Load())
	}
}

func acknowledged(ledgers []*ledger) int {
	n := 0
	for _, l := range ledgers {
		l.mu.Lock()
		n += len(l.acked)
		l.mu.Unlock()
	}
	return n
}

// checkHistory compares the history of the ledger's key with the ledger: newest
// first, without a gap, each row beginning where the one before it ended.
func checkHistory(t *testing.T, a *Agent, l *ledger) int {
	t.Helper()
	current := a.Document(l.service)
	wantVersion, wantValue := current.Metadata.Version, jsonText(current.Values[l.key])
	rows := 0
	for full := true; full; {
		var page conf.HistoryPage
		a.Admin("GET", fmt.Sprintf("/api/config/history?limit=1000&service=%s&key=%s&offset=%d", l.service, l.key, rows), "").Into(t, &page)
		for _, h := range page.Results {
			if h.Version <= l.first {
				return rows
			}
			if h.Version != wantVersion || string(h.NewValue) != wantValue {
				t.Fatalf("history of %s has version %d with %s, want version %d with %s", l.service, h.Version, h.NewValue, wantVersion, wantValue)
			}
			l.settle(t, h.Version, string(h.NewValue))
			rows++
			wantVersion, wantValue = h.Version-1, string(h.OldValue)
		}
		full = len(page.Results) == 1000
	}
	if wantVersion != l.first {
		t.Fatalf("history of %s ends before version %d, want it back to %d", l.service, wantVersion+1, l.first+1)
	}
	return rows
}

// checkLKG requires that the file on disk is whole and that its HMAC holds.
func checkLKG(t *testing.T, a *Agent) {
	t.Helper()
	data, err := os.ReadFile(a.LKG())
	if err != nil {
		t.Fatal(err)
	}
	env, err := godotenv.Read(a.EnvFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyLKG(data, env["LKG_HMAC_KEY_BASE64"]); err != nil {
		t.Fatalf("%s: %v", a.LKG(), err)
	}
}

// verifyLKG checks the seed's five fields and the signature as a reader in any
// language would: HMAC-SHA256 over the RFC 8785 form of the other four.
func verifyLKG(data []byte, key string) error {
	doc, err := conf.ParseObject(data, 1<<30)
	if err != nil {
		return err
	}
	if got := strings.Join(conf.SortedKeys(doc), " "); got != "algorithm config_epoch generated_at payload signature" {
		return fmt.Errorf("its members are %s", got)
	}
	signature, _ := doc["signature"].(string)
	delete(doc, "signature")
	canonical, err := seal.Canonical(doc)
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return err
	}
	if !seal.CheckMAC(raw, canonical, signature) {
		return errors.New("the signature does not hold")
	}
	return nil
}
