package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

const (
	backupSettle = time.Second     // a leader that is deposed at once makes no whole copy
	backupGrace  = 4 * time.Second // for the last changes, at an orderly stop
)

// backUp copies the database while this member leads. It ends before the session
// closes the database, and so before anything takes its place.
func (ss *session) backUp(ctx context.Context) {
	o := ss.s.o
	if !o.Backup.Enabled() || !ss.settled(ctx) {
		return
	}
	epoch, created := ss.store.Genesis()
	r := backup.Start(backup.Options{
		Previous: ss.s.ancestors(epoch), Keys: func() []string { return conf.SortedKeys(ss.s.publicKeys()) },
		Target: o.Backup, DB: o.DBPath, Retention: time.Duration(o.BackupHours) * time.Hour,
		Epoch: epoch, EpochCreated: created, Node: ss.s.cluster.self(), Term: ss.member.Term(),
		Applied: func() uint64 { i, _ := ss.store.Applied(); return i },
		Digest:  ss.store.DigestAt, Check: ss.s.checkBackup, Own: ss.store.OwnCheckpoints,
		DrillEvery: o.BackupDrill, MaxLocal: mostWaiting(o.DataDir), Logger: ss.s.log,
	})
	ss.s.backup.Store(r)
	defer ss.s.backup.CompareAndSwap(r, nil)
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), backupGrace)
	defer cancel()
	if !ss.member.Leading() {
		cancel() // another leader copies from now on
	}
	r.Stop(last)
}

// mostWaiting is how much may wait for the place of the backup: never so much that a
// small disk is full of it.
func mostWaiting(dir string) int64 {
	const most, least = 256 << 20, 16 << 20
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return least
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:gosec,unconvert // of another type on other systems
	return min(most, max(least, free/4))
}

// settled waits until this session is the one that serves, and leads for a while.
func (ss *session) settled(ctx context.Context) bool {
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if time.Since(began) >= backupSettle && ss.s.cur.Load() == ss && ss.store.Epoch() != "" {
				return true
			}
		}
	}
}

// checkBackup proves all of a restored file, as opening a database does.
func (s *supervisor) checkBackup(ctx context.Context, file string) (backup.Content, error) {
	return checkFile(ctx, store.Options{Path: file, Logger: s.log, Project: s.project, ModelHash: modelHash})
}

func checkFile(ctx context.Context, o store.Options) (c backup.Content, err error) {
	st, err := store.Open(ctx, o)
	if st != nil {
		defer func() {
			if cerr := st.Close(); err == nil {
				err = cerr
			}
		}()
	}
	if err != nil {
		return c, err
	}
	c.Index, c.Digest = st.Position()
	_, c.Term = st.Applied()
	if c.Epoch = st.Epoch(); c.Epoch == "" {
		return c, conf.Errorf(conf.CodeCorrupt, "the restored database holds no epoch")
	}
	return c, nil
}

// ownBackup is what this agent itself knows, as the leader.
func (s *supervisor) ownBackup() conf.BackupStatus {
	out := conf.BackupStatus{Status: conf.BackupDisabled, NodeID: s.cluster.self()}
	if !s.o.Backup.Enabled() {
		return out
	}
	out.Status, out.Place, out.Verified = conf.BackupStarting, s.o.Backup.String(), s.verifiedBefore()
	r := s.backup.Load()
	if r == nil {
		return out
	}
	st := r.Status()
	at := func(t time.Time) *string {
		if t.IsZero() {
			return nil
		}
		text := conf.FormatTime(t)
		return &text
	}
	text := func(err error) *string {
		if err == nil {
			return nil
		}
		t := err.Error()
		return &t
	}
	out.Generation, out.StartedAt, out.Index, out.Behind = st.Generation, at(st.Started), st.Index, st.Behind
	out.LagSeconds, out.LagP99Seconds, out.LastBackup, out.Waiting = st.Lag.Seconds(), st.LagP99.Seconds(), at(st.LastSync), st.Local
	if out.Err = text(st.Err); out.Err != nil {
		out.Status = conf.BackupError
	}
	if d := st.Drill; d != nil {
		out.Drill = &conf.Drill{At: *at(d.At), Took: d.Took.Seconds(), Err: text(d.Err)}
		if d.Err != nil {
			out.Status = conf.BackupError
			if out.Err == nil {
				out.Err = text(conf.Errorf(conf.CodeOf(d.Err), "the last restore drill failed: %w", d.Err))
			}
		}
	}
	v := st.Verified
	if v != nil && out.Err == nil {
		out.Status = conf.BackupHealthy
	}
	if v == nil {
		v = st.Earlier
	}
	if v != nil {
		out.Verified = &conf.Drill{At: conf.FormatTime(v.At), Index: v.Index, Bytes: v.Bytes, Digest: v.Digest}
		if st.Verified != nil && out.Drill != nil && out.Drill.Err == nil {
			out.Drill.Index, out.Drill.Bytes, out.Drill.Digest = v.Index, v.Bytes, v.Digest
		}
	}
	return out
}

// verifiedBefore is what an earlier leader of this epoch has proved, as this agent
// knows it.
func (s *supervisor) verifiedBefore() *conf.Drill {
	seen := s.backupSeen.Load()
	if seen == nil || !strings.HasPrefix(seen.Generation, s.view.Load().Epoch+"/") {
		return nil
	}
	return seen.Verified
}

// sharedBackup tells of somebody else at the place of the backup: that is for the
// operator to see wherever he looks.
func (s *supervisor) sharedBackup() error {
	if r := s.backup.Load(); r != nil {
		return r.Status().Shared
	}
	return nil
}

// ancestors are the epochs that led to this one, the oldest first.
func (s *supervisor) ancestors(epoch string) (out []string) {
	add := func(e string) {
		if e != epoch && e != "" && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	if changes := s.epochs.Load(); changes != nil {
		for _, c := range *changes {
			add(c.Previous)
		}
	}
	for _, e := range s.past {
		add(e)
	}
	return out
}

// knownBackup is how the backup of the cluster is, from memory.
func (s *supervisor) knownBackup() conf.BackupStatus {
	own := s.ownBackup()
	if own.Status == conf.BackupDisabled || s.backup.Load() != nil {
		return own
	}
	if seen := s.backupSeen.Load(); seen != nil {
		return *seen
	}
	return own
}

// watchBackup asks the leader how the backup is, so that this agent can tell.
func (ss *session) watchBackup(ctx context.Context) {
	if !ss.s.o.Backup.Enabled() {
		return
	}
	for wait := time.Second; ; {
		if ss.s.backup.Load() == nil {
			if b, err := ss.s.leadersBackup(ctx); err == nil && !ss.leads() {
				ss.s.backupSeen.Store(&b)
				wait = 5 * time.Second
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (s *supervisor) leadersBackup(ctx context.Context) (b conf.BackupStatus, err error) {
	leader, ok := s.cluster.leader()
	if !ok {
		return b, conf.Errorf(conf.CodeNoQuorum, "no leader is known, and without one nothing is copied").WithHint("holdfast cluster status")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = s.cluster.call(ctx, leader, "/backup", nil, &b)
	return b, err
}

// BackupStatus is admin.Backups: the leader's word.
func (s *supervisor) BackupStatus(ctx context.Context) (conf.BackupStatus, error) {
	if s.cluster.leading() {
		return s.ownBackup(), nil
	}
	return s.leadersBackup(ctx)
}

func (s *supervisor) needBackup() error {
	if !s.o.Backup.Enabled() {
		return conf.Errorf(conf.CodeUnsupported, "this agent has no place for backups").WithHint("set LITESTREAM_S3_ENDPOINT, the same for all servers")
	}
	return nil
}

// Backups is admin.Backups.
func (s *supervisor) Backups(ctx context.Context) ([]conf.Backup, error) {
	if err := s.needBackup(); err != nil {
		return nil, err
	}
	return ListBackups(ctx, s.o)
}

// DrillBackup is admin.Backups.
func (s *supervisor) DrillBackup(ctx context.Context) (conf.Drill, error) {
	if err := s.needBackup(); err != nil {
		return conf.Drill{}, err
	}
	r := s.backup.Load()
	if r == nil {
		return conf.Drill{}, conf.Errorf(conf.CodeReadOnly, "this agent does not copy the database yet").WithHint("try again in a moment")
	}
	if _, err := r.Drill(ctx); err != nil {
		return conf.Drill{}, err
	}
	return *s.ownBackup().Drill, nil
}

// ListBackups lists the backups at the place that the settings name, the newest
// first. It needs no agent.
func ListBackups(ctx context.Context, o Options) ([]conf.Backup, error) {
	gens, err := backup.List(ctx, o.Backup)
	if err != nil {
		return nil, err
	}
	out := []conf.Backup{}
	for _, g := range gens {
		b := conf.Backup{
			ID: g.ID, Epoch: g.Epoch, Cluster: g.Cluster, Term: g.Term, NodeID: g.Node, StartedAt: conf.FormatTime(g.StartedAt),
			Newest: conf.FormatTime(g.Newest), Bytes: g.Bytes, Files: g.Files,
		}
		if g.Verified != nil {
			at := conf.FormatTime(g.Verified.At)
			b.VerifiedAt = &at
		}
		out = append(out, b)
	}
	return out, nil
}
