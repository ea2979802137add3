package testenv

import (
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into what was restored

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// The counts take long: by default a few of each are tried.
var (
	leaderChanges = flag.Int("leader-changes", 4, "how many times the leader of a cluster that backs up changes")
	moments       = flag.Int("moments", 8, "how many moments are restored after that")
	zombies       = flag.Int("zombies", 1, "how many leaders are stopped, deposed and let go on")
	placeDown     = flag.Duration("place-down", 5*time.Second, "for how long the place of the backup is gone under load")
)

// diary is one writer after the other's words: values that only grow, over three
// services, and when each was sent and acknowledged.
type diary struct {
	t    testing.TB
	c    *Cluster
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	sent  []time.Time // by value - 1
	acked map[int]time.Time
}

const diaryServices = 3

func startDiary(t testing.TB, c *Cluster) *diary {
	d := &diary{t: t, c: c, stop: make(chan struct{}), acked: map[int]time.Time{}}
	for i := range diaryServices {
		c.putSchema(diaryService(i), registerSchema)
	}
	d.wg.Go(d.write)
	t.Cleanup(d.end)
	return d
}

func diaryService(i int) string { return "diary" + strconv.Itoa(i%diaryServices) }

func (d *diary) write() {
	for n := 1; ; n++ {
		select {
		case <-d.stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		d.mu.Lock()
		d.sent = append(d.sent, time.Now())
		d.mu.Unlock()
		for _, node := range d.c.Live() { // again at the next one when this one died over it, and once in any case
			r := node.Admin("PATCH", "/api/config/services/"+diaryService(n), fmt.Sprintf(`{"v":"%d"}`, n), fmt.Sprintf("Idempotency-Key: diary-%d", n))
			if r.Err == nil && r.Status == http.StatusOK {
				d.mu.Lock()
				d.acked[n] = time.Now()
				d.mu.Unlock()
				break
			}
			if r.Err == nil && r.Status == http.StatusGatewayTimeout {
				break // made or not: the next one is another value
			}
		}
	}
}

func (d *diary) end() {
	d.mu.Lock()
	select {
	case <-d.stop:
	default:
		close(d.stop)
	}
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *diary) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked)
}

func (d *diary) awaitMore(n int) {
	d.t.Helper()
	want := d.count() + n
	Await(d.t, fmt.Sprintf("%d more writes", n), func() bool { return d.count() >= want })
}

// require fails unless the restored file holds what was written up to some moment
// before at, and nothing else: every version of each service in its order, none
// left out that was acknowledged before a later one that is there. It returns how
// long before at that moment was.
func (d *diary) require(file string, at time.Time) time.Duration {
	d.t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		d.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT service, version, values_json FROM config_versions WHERE service LIKE 'diary%' ORDER BY service, version")
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	there := map[int]bool{}
	last, newest, before := map[string]int{}, 0, map[string]uint64{}
	for rows.Next() {
		var service, values string
		var version uint64
		if err := rows.Scan(&service, &version, &values); err != nil {
			d.t.Fatal(err)
		}
		if version != before[service]+1 {
			d.t.Fatalf("%s: version %d follows %d", service, version, before[service])
		}
		before[service] = version
		var v struct{ V string }
		if err := json.Unmarshal([]byte(values), &v); err != nil {
			d.t.Fatal(err)
		}
		if v.V == "" { // the schema's own first version
			continue
		}
		n, err := strconv.Atoi(v.V)
		if err != nil || diaryService(n) != service || n <= last[service] {
			d.t.Fatalf("%s version %d has %q after %d", service, version, v.V, last[service])
		}
		there[n], last[service], newest = true, n, max(newest, n)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range newest {
		if _, ok := d.acked[n]; ok && !there[n] {
			d.t.Fatalf("%s: the write %d was acknowledged and is missing, %d is there", file, n, newest)
		}
	}
	if newest > len(d.sent) || (newest > 0 && d.sent[newest-1].After(at)) {
		d.t.Fatalf("the state of %s holds the write %d, which was sent after it", at, newest)
	}
	gap := time.Duration(0)
	for n := newest + 1; n <= len(d.sent); n++ {
		if acked, ok := d.acked[n]; ok && acked.Before(at) {
			gap = max(gap, at.Sub(acked))
		}
	}
	return gap
}

// backup is what the cluster says of its backup, from any agent.
func (n *Node) backup() (st conf.BackupStatus, ok bool) {
	r := n.Admin("GET", "/api/config/backups/status", "")
	return st, r.Err == nil && r.Status == http.StatusOK && json.Unmarshal(r.Body, &st) == nil
}

func (c *Cluster) awaitVerified() conf.BackupStatus {
	c.t.Helper()
	var out conf.BackupStatus
	Await(c.t, "the backup to be verified", func() bool {
		for _, n := range c.Live() {
			if st, ok := n.backup(); ok && st.Verified != nil && st.Status == conf.BackupHealthy {
				out = st
				return true
			}
		}
		return false
	})
	return out
}

// awaitCopied waits until a leader has proved a backup and copied all that there is.
func (c *Cluster) awaitCopied() {
	c.t.Helper()
	Await(c.t, "all to be copied", func() bool {
		for _, n := range c.Live() {
			st, ok := n.backup()
			if !ok || st.Verified == nil || st.Status != conf.BackupHealthy || st.Behind != 0 {
				return false
			}
		}
		return true
	})
}

// restoreTo runs holdfast backup restore; code is its exit code.
func restoreTo(t testing.TB, n *Node, args ...string) (file, out string, code int) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "restored.db")
	out, code = n.Holdfast(append([]string{"backup", "restore", "-o", file}, args...)...)
	return file, out, code
}

// TestLeadersBackUp changes the leader all the time under writes, in order and by
// force, and restores random moments.
func TestLeadersBackUp(t *testing.T) {
	s := NewS3(t)
	c := StartCluster(t, 3, 0, s.Env("prod")...)
	c.awaitVerified()
	begin := time.Now()
	d := startDiary(t, c)
	for i := range *leaderChanges {
		was := c.Leader()
		d.awaitMore(20)
		if i%3 == 2 {
			was.Kill()
			Await(t, "another leader", func() bool { l := c.TryLeader(); return l != nil && l != was })
			d.awaitMore(10)
			was.Start()
			was.AwaitUp()
		} else {
			Await(t, "the leadership to go to another", func() bool {
				r := was.Admin("POST", "/api/config/cluster/transfer", "")
				l := c.TryLeader()
				return r.Err == nil && l != nil && l != was
			})
		}
		if i%2 == 1 { // some leaders are deposed before they have begun a backup
			c.awaitVerified()
		}
	}
	d.awaitMore(20)
	end := time.Now()
	d.end()
	c.awaitCopied()
	leader := c.Leader()
	worst := time.Duration(0)
	for range *moments {
		at := begin.Add(time.Duration(rand.Int64N(int64(end.Sub(begin)))))
		file, out, code := restoreTo(t, leader, "--timestamp", at.UTC().Format(time.RFC3339Nano))
		if code != 0 {
			t.Fatalf("restoring %s: exit code %d: %s", at, code, out)
		}
		worst = max(worst, d.require(file, at))
	}
	file, out, code := restoreTo(t, leader)
	if code != 0 {
		t.Fatalf("restoring the newest: exit code %d: %s", code, out)
	}
	if gap := d.require(file, time.Now()); gap > 0 {
		t.Errorf("the newest backup lacks a write of %s ago", gap)
	}
	list, _ := leader.Holdfast("backup", "list")
	t.Logf("%d leader changes, %d moments restored, %d writes; a restored state lacked writes of at most the last %s\n%s", *leaderChanges, *moments, d.count(), worst.Round(time.Millisecond), list)
}

// TestZombieLeader stops leaders with SIGSTOP, lets another lead and back up, and
// wakes the old one, which goes on writing its own generation for a moment.
func TestZombieLeader(t *testing.T) {
	s := NewS3(t)
	c := StartCluster(t, 3, 0, s.Env("prod")...)
	d := startDiary(t, c)
	for range *zombies {
		c.awaitVerified()
		old := c.Leader()
		d.awaitMore(10)
		old.Pause()
		Await(t, "another leader", func() bool { l := c.TryLeader(); return l != nil && l != old })
		d.awaitMore(20)
		old.Resume()
		old.AwaitUp()
		d.awaitMore(10)
		c.awaitVerified()
		file, out, code := restoreTo(t, c.Leader())
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, out)
		}
		d.require(file, time.Now())
	}
	d.end()
	var gens []conf.Backup
	out, code := c.Leader().Holdfast("backup", "list", "-o", "json")
	if code != 0 || json.Unmarshal([]byte(out), &gens) != nil || len(gens) < *zombies {
		t.Fatalf("exit code %d, %d generations: %s", code, len(gens), out)
	}
	for _, g := range gens { // each of them, also those of the deposed
		file, out, code := restoreTo(t, c.Leader(), "--generation", g.ID)
		if code != 0 && g.VerifiedAt == nil {
			t.Logf("%s, of a leader that was deposed before it had copied anything whole: %s", g.ID, out)
			continue
		}
		if code != 0 {
			t.Fatalf("%s: exit code %d: %s", g.ID, code, out)
		}
		d.require(file, time.Now())
	}
}

// TestPlaceDownUnderLoad: no write waits for S3, the status says it, and all is
// caught up afterwards.
func TestPlaceDownUnderLoad(t *testing.T) {
	s := NewS3(t)
	c := StartCluster(t, 1, 0, s.Env("prod")...)
	c.awaitVerified()
	n := c.Leader()
	n.Try("PUT", "/api/config/schemas/load", registerSchema).OK(t)
	i := 0
	quantiles := func(during time.Duration) (p50, p99 time.Duration) {
		var all []time.Duration
		for end := time.Now().Add(during); time.Now().Before(end); {
			i++
			start := time.Now()
			n.Try("PATCH", "/api/config/services/load", fmt.Sprintf(`{"v":"%d"}`, i)).OK(t)
			all = append(all, time.Since(start))
		}
		slices.Sort(all)
		return all[len(all)/2], all[len(all)*99/100]
	}
	around := min(*placeDown/2, 2*time.Minute)
	for try := 1; ; try++ {
		before50, before := quantiles(around)
		s.Down()
		gone := time.Now()
		told := make(chan time.Duration, 1)
		go func() {
			poll(Patience, func() bool { h, ok := n.Health(); return ok && h.LitestreamStatus == conf.BackupError })
			told <- time.Since(gone)
		}()
		during50, during := quantiles(*placeDown)
		if took := <-told; took > time.Minute {
			t.Error("the health did not tell of it within a minute")
		} else {
			t.Logf("the health told of it after %s", took)
		}
		s.Heal()
		last := i
		back := time.Now()
		Await(t, "all to be caught up", func() bool {
			st, ok := n.backup()
			return ok && st.Status == conf.BackupHealthy && st.Behind == 0
		})
		after50, after := quantiles(around)
		t.Logf("p99 of a write: %s before, %s while S3 was gone, %s after; %d writes; caught up in %s", before, during, after, last, time.Since(back)-around)
		// The 10 % are measured by make bench. Here the machine may be busy with
		// something else; but a write that waits for S3 waits for seconds, and if it is for
		// less, then all do. The machine may also stop for a moment; but not each time.
		if during <= 3*max(before, after)+250*time.Millisecond && during50 <= 3*max(before50, after50)+20*time.Millisecond {
			break
		}
		t.Logf("try %d: writes waited while S3 was gone: p99 %s, before %s, after %s; half of them %s, before %s, after %s", try, during, before, after, during50, before50, after50)
		if try == 3 {
			t.Error("writes wait while S3 is gone")
			break
		}
	}
	_, out, code := restoreTo(t, n)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
}

// TestLoss loses what can be lost, and does what docs/recovery.md says.
func TestLoss(t *testing.T) {
	s := NewS3(t)
	c := StartCluster(t, 3, 1, s.Env("prod")...)
	first, side := c.Nodes[0], c.Nodes[3]
	first.Patch("stt-worker", `{"vad_threshold": 0.61}`)
	wiped := c.awaitVerified().Generation

	// S3 is wiped, the cluster alone is left.
	s.Wipe()
	Await(t, "a new generation", func() bool { // a whole one, which is proved
		out, code := first.Holdfast("backup", "list", "-o", "json")
		var gens []conf.Backup
		return code == 0 && json.Unmarshal([]byte(out), &gens) == nil && len(gens) > 0 && gens[0].ID != wiped && gens[0].VerifiedAt != nil
	})
	changed := first.Patch("stt-worker", `{"vad_threshold": 0.62}`)
	Await(t, "the change to be copied", func() bool { st, ok := first.backup(); return ok && st.Behind == 0 && st.Status == conf.BackupHealthy })
	oldEpoch := first.EpochFile().ConfigEpoch

	// All servers' disks are wiped. The .env file was kept apart; one old server comes
	// back later from a copy of its disk; the sidecar goes on all the time.
	keys := filepath.Join(t.TempDir(), "env")
	for _, n := range []*Node{c.Nodes[1], side} { // what they will start from
		awaitVersion(t, n, "stt-worker", changed)
		n.AwaitLKG(State{"stt-worker": n.Document("stt-worker")})
	}
	for _, n := range c.Nodes[:3] {
		n.Kill()
	}
	copyFile(t, first.EnvFile(), keys)
	ghost := filepath.Join(t.TempDir(), "ghost")
	CopyDir(t, c.Nodes[1].Dir, ghost)
	for _, n := range c.Nodes[:3] {
		n.Wipe()
	}
	if doc := side.Document("stt-worker"); fmt.Sprint(doc.Values["vad_threshold"]) != "0.62" {
		t.Errorf("the sidecar serves %v", doc.Values["vad_threshold"])
	}
	copyFile(t, keys, first.EnvFile())
	first.args = []string{"agent", "--restore"}
	first.Start()
	first.AwaitUp()
	first.args = []string{"agent"}
	if doc := first.AwaitServing("stt-worker"); fmt.Sprint(doc.Values["vad_threshold"]) != "0.62" || doc.Metadata.Epoch == oldEpoch {
		t.Fatalf("restored %v in the epoch %s", doc.Values["vad_threshold"], doc.Metadata.Epoch)
	}
	newEpoch := first.EpochFile().ConfigEpoch
	first.Patch("stt-worker", `{"vad_threshold": 0.63}`)

	// The members of the old epoch stay out, and keep what they had.
	c.Nodes[1].args = []string{"agent"}
	CopyDir(t, ghost, c.Nodes[1].Dir)
	c.Nodes[1].Start()
	old := c.Nodes[1].AwaitServing("stt-worker")
	if fmt.Sprint(old.Values["vad_threshold"]) != "0.62" || old.Metadata.Epoch != oldEpoch {
		t.Errorf("an old server serves %v of the epoch %s", old.Values["vad_threshold"], old.Metadata.Epoch)
	}
	first.Patch("stt-worker", `{"vad_threshold": 0.64}`)
	if doc := side.Document("stt-worker"); fmt.Sprint(doc.Values["vad_threshold"]) != "0.62" || doc.Metadata.Epoch != oldEpoch {
		t.Errorf("the sidecar took %v of the epoch %s without having joined", doc.Values["vad_threshold"], doc.Metadata.Epoch)
	}
	if st := status(t, first); len(Voters(st)) != 1 {
		t.Errorf("the new cluster counts %v among its voters", Voters(st))
	}
	if doc := first.Document("stt-worker"); doc.Metadata.Epoch != newEpoch || fmt.Sprint(doc.Values["vad_threshold"]) != "0.64" {
		t.Errorf("the new cluster serves %v of the epoch %s", doc.Values["vad_threshold"], doc.Metadata.Epoch)
	}
	c.Nodes[1].Kill()
	saved := filepath.Join(t.TempDir(), "config.lkg.json") // and the journal, when there is one
	copyFile(t, side.LKG(), saved)
	if _, err := os.Stat(lkg.JournalPath(side.LKG())); err == nil {
		copyFile(t, lkg.JournalPath(side.LKG()), lkg.JournalPath(saved))
	}
	sideKeys, err := os.ReadFile(side.EnvFile())
	if err != nil {
		t.Fatal(err)
	}
	side.Kill()
	side.Wipe()
	side.Paste(first.TokenCommand("--role", "sidecar"))
	side.AwaitUp()
	Await(t, "the sidecar that joined anew to follow", func() bool {
		doc, err := side.TryDocument("stt-worker")
		return err == nil && fmt.Sprint(doc.Values["vad_threshold"]) == "0.64"
	})

	// Both are wiped: one sidecar's last-known-good file is left, and the keys.
	for _, n := range []*Node{first, side} {
		n.Kill()
		n.Wipe()
	}
	s.Wipe()
	copyFile(t, keys, first.EnvFile())
	copyFile(t, saved, first.LKG())
	if _, err := os.Stat(lkg.JournalPath(saved)); err == nil {
		copyFile(t, lkg.JournalPath(saved), lkg.JournalPath(first.LKG()))
	}
	addSidecarsKey(t, first.EnvFile(), string(sideKeys))
	first.Start()
	if doc := first.AwaitServing("stt-worker"); fmt.Sprint(doc.Values["vad_threshold"]) != "0.62" || doc.Source != "lkg" {
		t.Fatalf("from the sidecar's file: %v, source %s", doc.Values["vad_threshold"], doc.Source)
	}
	first.AwaitHealth("the agent to say that it only reads", readOnly)
	if out, code := first.Holdfast("rebuild", "--yes"); code != 0 {
		t.Fatalf("rebuild: exit code %d: %s", code, out)
	}
	if v := first.Patch("stt-worker", `{"vad_threshold": 0.65}`); v == 0 {
		t.Error("no version")
	}
	requireSource(t, first, "lkg")
}

// TestBackupStarting: what has not been proved yet is not called healthy, least of
// all right after a restore, when the place holds the backups of another epoch.
func TestBackupStarting(t *testing.T) {
	t.Parallel()
	s := NewS3(t)
	c := StartCluster(t, 1, 0, s.Env("prod")...)
	n := c.Leader()
	c.awaitVerified()
	Await(t, "the health to tell of it", func() bool {
		h, ok := n.Health()
		return ok && h.LitestreamStatus == conf.BackupHealthy && h.LastBackup != nil
	})
	old := n.EpochFile().ConfigEpoch
	keys := filepath.Join(t.TempDir(), "env")
	copyFile(t, n.EnvFile(), keys)
	n.Kill()
	n.Wipe()
	copyFile(t, keys, n.EnvFile())
	n.args = []string{"agent", "--restore"}
	s.HoldWrites() // nothing can be proved for now
	n.Start()
	starting := 0
	Await(t, "the new epoch's backup to be verified", func() bool {
		st, ok := n.backup()
		if !ok {
			return false
		}
		h, hok := n.Health()
		if !hok {
			return false
		}
		proved := st.Verified != nil && strings.HasPrefix(st.Generation, h.ConfigEpoch+"/") && h.ConfigEpoch != old
		switch {
		case st.Status == conf.BackupHealthy:
			if !proved {
				t.Errorf("healthy without a proof: %s", jsonText(st))
			}
			return true
		case st.Status != conf.BackupStarting:
			t.Errorf("the backup is %s", jsonText(st))
		case h.LitestreamStatus == conf.BackupError:
			starting++
			s.Heal()
		}
		return false
	})
	if starting == 0 {
		t.Error("nothing told that the backup has only begun")
	}
	Await(t, "the health to follow", func() bool { h, ok := n.Health(); return ok && h.LitestreamStatus == conf.BackupHealthy })
}

// TestSharedPlace: two clusters that were given one path for their backups find each
// other there; a restore takes that of the keys in the .env file.
func TestSharedPlace(t *testing.T) {
	t.Parallel()
	s := NewS3(t)
	first, second := StartCluster(t, 1, 0, s.Env("prod")...).Nodes[0], NewCluster(t, s.Env("prod")...)
	first.Patch("stt-worker", `{"vad_threshold": 0.61}`)
	Await(t, "the first to be copied", func() bool { st, ok := first.backup(); return ok && st.Verified != nil && st.Behind == 0 })
	other := second.Join(conf.MemberServer)
	other.Patch("stt-worker", `{"vad_threshold": 0.62}`)
	Await(t, "the second to tell of the first", func() bool {
		h, ok := other.Health()
		return ok && h.LitestreamStatus == conf.BackupError && h.Err != nil && strings.Contains(*h.Err, "LITESTREAM_S3_PATH")
	})
	Await(t, "the second to be copied all the same", func() bool { st, ok := other.backup(); return ok && st.Behind == 0 && st.Verified != nil })
	if out, code := first.Holdfast("backup", "list"); code != 0 || !strings.Contains(out, "CLUSTER") {
		t.Errorf("exit code %d: %s", code, out)
	}
	for n, want := range map[*Node]string{first: "0.61", other: "0.62"} {
		file, out, code := restoreTo(t, n)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, out)
		}
		if out, code := n.Holdfast("export", "--db", file); code != 0 || !strings.Contains(out, `"vad_threshold": `+want) {
			t.Errorf("exit code %d, want %s in: %s", code, want, out)
		}
	}
	_, _, code := restoreTo(t, first, "--env-file", filepath.Join(t.TempDir(), "none"))
	if code != 4 {
		t.Errorf("a restore without keys: exit code %d", code)
	}
}

// TestStockLitestreamReads restores a generation with Litestream's own program, as
// docs/backup.md shows, from S3 and from a directory.
func TestStockLitestreamReads(t *testing.T) {
	t.Parallel()
	bin := installed(t, litestream)
	s := NewS3(t)
	dir := t.TempDir()
	for name, env := range map[string][]string{"s3": s.Env("prod"), "file": {"LITESTREAM_S3_ENDPOINT=file://" + dir, "LITESTREAM_S3_PATH=prod"}} {
		c := StartCluster(t, 1, 0, env...)
		n := c.Nodes[0]
		n.Patch("stt-worker", `{"vad_threshold": 0.77}`)
		st := c.awaitVerified()
		c.awaitCopied()
		n.Stop()
		url := "file://" + dir + "/prod/" + st.Generation
		if name == "s3" {
			url = "s3://" + s.Bucket + "/" + s.Below() + "prod/" + st.Generation + "?endpoint=" + strings.TrimPrefix(s.Direct, "http://")
		}
		out := filepath.Join(t.TempDir(), "stock.db")
		p := Spawn(t, dir, []string{"LITESTREAM_ACCESS_KEY_ID=" + s.AccessKey, "LITESTREAM_SECRET_ACCESS_KEY=" + s.SecretKey}, bin, "restore", "-o", out, url)
		if code := p.Wait(t, "litestream restore"); code != 0 {
			t.Fatalf("litestream restore %s: exit code %d:\n%s", url, code, p.Output())
		}
		db, err := sql.Open("sqlite", "file:"+out+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		var values string
		if err := db.QueryRow("SELECT values_json FROM service_configs WHERE service = 'stt-worker'").Scan(&values); err != nil || !strings.Contains(values, "0.77") {
			t.Errorf("%s: restored %s, %v", name, values, err)
		}
		_ = db.Close()
	}
}

// TestRebuildPrefersTheBackup: with the replica gone permanently, an agent that may
// rebuild takes the newest good backup, and what its own file has that is newer.
func TestRebuildPrefersTheBackup(t *testing.T) {
	t.Parallel()
	place := "LITESTREAM_S3_ENDPOINT=file://" + t.TempDir()
	c := StartCluster(t, 1, 0, place)
	n := c.Nodes[0]
	n.Try("PUT", "/api/config/schemas/extra", registerSchema).OK(t)
	n.Patch("stt-worker", `{"vad_threshold": 0.61}`)
	c.awaitVerified()
	Await(t, "all to be copied", func() bool { st, ok := n.backup(); return ok && st.Behind == 0 })
	n.Stop()
	// The change after the last copy is in the last-known-good file alone.
	n.Set("LITESTREAM_S3_ENDPOINT", "")
	n.Start()
	n.AwaitNormal()
	n.Patch("extra", `{"v": "newer"}`)
	n.Stop()
	n.Set("LITESTREAM_S3_ENDPOINT", strings.TrimPrefix(place, "LITESTREAM_S3_ENDPOINT="))
	n.WreckReplica()
	n.Set("ALLOW_AUTO_REBUILD", "1")
	n.Start()
	n.AwaitNormal()
	if doc := n.Document("stt-worker"); fmt.Sprint(doc.Values["vad_threshold"]) != "0.61" {
		t.Errorf("rebuilt %v", doc.Values["vad_threshold"])
	}
	if doc := n.Document("extra"); fmt.Sprint(doc.Values["v"]) != "newer" {
		t.Errorf("rebuilt %v, which the last-known-good file had newer", doc.Values["v"])
	}
	requireSource(t, n, "backup")
	if out, code := n.Holdfast("history", "stt-worker"); code != 0 || !strings.Contains(out, "0.61") {
		t.Errorf("the history is gone: %s", out)
	}
	Await(t, "the access log to tell of it", func() bool {
		out, code := n.Holdfast("audit")
		return code == 0 && strings.Contains(out, "rebuild from the backup")
	})
}

// addSidecarsKey lets a server read the last-known-good file of a sidecar, as
// docs/recovery.md says: a sidecar has a key of its own for it.
func addSidecarsKey(t testing.TB, envFile, sidecar string) {
	t.Helper()
	text, err := os.ReadFile(envFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(sidecar) {
		if value, ok := strings.CutPrefix(line, "LKG_HMAC_KEY_BASE64="); ok {
			text = append(text, "LKG_HMAC_KEY_OLD_BASE64="+strings.TrimRight(value, "\n")+"\nLKG_HMAC_KEY_OLD_ID=9d2d6f0e-55cf-4c21-b1d5-0d6f3b0a7f11\n"...)
		}
	}
	if err := os.WriteFile(envFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func requireSource(t testing.TB, n *Node, source string) {
	t.Helper()
	data, err := os.ReadFile(n.Path("rebuild.info"))
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Source, Reason string }
	if err := json.Unmarshal(data, &info); err != nil || info.Source != source {
		t.Errorf("rebuild.info says %s (%v)", data, err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
