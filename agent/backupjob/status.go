package backupjob

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// own is the status of the backup that this agent makes as the leader.
func (m *Manager) own() conf.BackupStatus {
	out := conf.BackupStatus{Status: conf.BackupDisabled, NodeID: m.o.Cluster.Self()}
	if !m.o.Options.Backup.Enabled() {
		return out
	}
	out.Status, out.Place, out.Verified = conf.BackupStarting, m.o.Options.Backup.String(), m.verifiedBefore()
	r := m.runner.Load()
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

// verifiedBefore is the last verification by an earlier leader of this epoch that was
// reported to this agent.
func (m *Manager) verifiedBefore() *conf.Drill {
	seen := m.seen.Load()
	if seen == nil || !strings.HasPrefix(seen.Generation, m.o.View.Load().Epoch+"/") {
		return nil
	}
	return seen.Verified
}

// ForeignErr returns an error when another cluster uses the backup target. Every member
// reports it.
func (m *Manager) ForeignErr() error {
	if r := m.runner.Load(); r != nil {
		return r.Status().ForeignErr
	}
	return nil
}

// Known returns the status of the backup of the cluster, from memory.
func (m *Manager) Known() conf.BackupStatus {
	own := m.own()
	if own.Status == conf.BackupDisabled || m.runner.Load() != nil {
		return own
	}
	if seen := m.seen.Load(); seen != nil {
		return *seen
	}
	return own
}

// WatchLeader is a job of every replica: it polls the leader for the status of the
// backup, which this agent reports.
func (m *Manager) WatchLeader(ctx context.Context, rep *replica.Replica) {
	if !m.o.Options.Backup.Enabled() {
		return
	}
	for wait := time.Second; ; {
		if m.runner.Load() == nil {
			if b, err := m.ofLeader(ctx); err == nil && !rep.IsReadyLeader() {
				m.seen.Store(&b)
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

func (m *Manager) ofLeader(ctx context.Context) (b conf.BackupStatus, err error) {
	leader, ok := m.o.Cluster.Leader()
	if !ok {
		return b, conf.Errorf(conf.CodeNoQuorum, "no backup is made: no leader is known").WithHint("holdfast cluster status")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = m.o.Cluster.Call(ctx, leader, routeBackup, nil, &b)
	return b, err
}

// BackupStatus returns the leader's status. It is for admin.Backups, as are the next two.
func (m *Manager) BackupStatus(ctx context.Context) (conf.BackupStatus, error) {
	if m.o.Cluster.IsReadyLeader() {
		return m.own(), nil
	}
	return m.ofLeader(ctx)
}

func (m *Manager) checkEnabled() error {
	if !m.o.Options.Backup.Enabled() {
		return conf.Errorf(conf.CodeUnsupported, "this agent has no backup target").WithHint("set LITESTREAM_S3_ENDPOINT, the same for all servers")
	}
	return nil
}

// Backups lists the generations at the target.
func (m *Manager) Backups(ctx context.Context) ([]conf.Backup, error) {
	if err := m.checkEnabled(); err != nil {
		return nil, err
	}
	return List(ctx, *m.o.Options)
}

// DrillBackup runs a restore drill now and returns when it has ended.
func (m *Manager) DrillBackup(ctx context.Context) (conf.Drill, error) {
	if err := m.checkEnabled(); err != nil {
		return conf.Drill{}, err
	}
	r := m.runner.Load()
	if r == nil {
		return conf.Drill{}, conf.Errorf(conf.CodeReadOnly, "this agent does not copy the database yet").WithHint("try again in a moment")
	}
	if _, err := r.Drill(ctx); err != nil {
		return conf.Drill{}, err
	}
	return *m.own().Drill, nil
}

// List lists the backups at the target of the settings, the newest first. It needs no
// agent.
func List(ctx context.Context, o options.Options) ([]conf.Backup, error) {
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
