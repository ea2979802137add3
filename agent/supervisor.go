package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/view"
)

type (
	entry    = view.Entry[*localapi.Document]
	liveView = view.View[*localapi.Document]
	snapshot = view.Snapshot[*localapi.Document]
)

// rebuildPause is the least time between two automatic rebuilds.
const rebuildPause = 30 * time.Second

// errRestart ends a session that has to begin anew without anything being wrong.
var errRestart = errors.New("the replica was replaced by a snapshot")

// supervisor runs sessions of the replica, one after the other, and decides what
// happens between them.
type supervisor struct {
	o       Options
	log     *slog.Logger
	keys    *keys.Ring
	vault   *keys.Vault
	ring    atomic.Pointer[conf.Keyring] // as the replica has it; nil before one was up
	st      *status
	cluster *cluster
	audit   *auditor
	view    *liveView
	schemas *schema.Cache
	cur     atomic.Pointer[session]
	newest  atomic.Pointer[store.Store] // opened last; its memory is read after it was closed, too

	cas parsedCAs

	keyTurn    chan struct{} // wakes tendKeys; capacity 1
	rotateTurn chan struct{} // wakes rotateOften; capacity 1
	rotating   sync.Mutex    // one change of the keys at a time
	lost       *lostSecrets
	keyMu      sync.Mutex
	keyErrs    map[string]error  // why this agent lacks a key, by kind; under keyMu
	offers     map[string]*offer // what the leader handed out and did not announce yet, by kind; under keyMu

	rebuilds chan *rebuildPlan     // asked for by hand; received by the running session or between two
	rebuilt  time.Time             // the last automatic rebuild; supervisor goroutine only
	repaired string                // what the next normal status tells; supervisor goroutine only
	healed   *RebuildInfo          // what the next live session writes to rebuild.info; supervisor goroutine only
	unproven atomic.Bool           // the store is from a backup, and its tokens are not revoked yet
	reviving atomic.Bool           // a recovery is not finished: who the members are is not what the log says
	shunned  atomic.Bool           // the others refuse this agent
	full     atomic.Pointer[error] // why there is too little space to take changes, nil when there is enough
	installs installs              // of snapshots, by the log's goroutine of one session after the other
	epoch    conf.EpochFile        // as last written; supervisor goroutine only

	editor     *edit.Editor                      // for callers: refuses while the agent is not in normal mode
	system     *edit.Editor                      // for the agent itself
	backup     atomic.Pointer[backup.Runner]     // while this agent leads and copies
	backupSeen atomic.Pointer[conf.BackupStatus] // what the leader last told of it
	loaded     atomic.Bool                       // there was all to read, once: from a last-known-good file, or from a session with all its schemas
	lkg        *lkg.Writer
	epochs     atomic.Pointer[[]conf.EpochChange] // the signed changes of the epoch, as the store has them
	past       []string                           // epochs that this agent had left when it started
	lastSchema atomic.Int64                       // schema version of the last running session
	heard      atomic.Int64                       // unix nanoseconds: when a leader was last heard from, 0 = never

	reissued, reissueFailures atomic.Uint64 // signatures renewed by this agent, and attempts that failed
}

// run returns when ctx ends and the last session is closed.
func (s *supervisor) run(ctx context.Context) {
	var plan *rebuildPlan
	for ctx.Err() == nil {
		live, err := s.session(ctx, plan)
		if plan != nil {
			plan.finish(err)
			plan = nil
		}
		if ctx.Err() != nil {
			return
		}
		if rf, ok := errors.AsType[*rebuildFault](err); ok {
			plan = rf.plan
			continue
		}
		if errors.Is(err, errRestart) {
			continue
		}
		if s.mustHeal(err, live) {
			s.heal(ctx, err)
			continue
		}
		plan = s.between(ctx, err, live)
	}
}

// between reports a fault and waits for a reason to try again: time, a change of
// the files, or a rebuild. It returns the plan of the rebuild to make. A replica
// that was up is tried again at once: opening it is what repairs it.
func (s *supervisor) between(ctx context.Context, err error, wasUp bool) *rebuildPlan {
	db := statusOf(err)
	s.st.set(db, conf.ModeReadOnly, "the replica is down", err)
	s.log.Error("the replica is down: serving the last known good values, refusing writes", "database", db, "err", err, "hint", conf.HintOf(err))
	s.serveDefaults()
	lost := !wasUp && (db == conf.DatabaseCorrupted || db == conf.DatabaseSchemaMismatch)
	give := time.Now().Add(time.Minute)
	if lost && s.o.AllowAutoRebuild {
		if time.Since(s.rebuilt) >= rebuildPause {
			s.rebuilt = time.Now()
			return newPlan("automatic: " + err.Error())
		}
		// The last one did not help: a broken disk, say.
		give = s.rebuilt.Add(rebuildPause)
	}
	wait := time.Second
	if db == conf.DatabaseLocked || (wasUp && db == conf.DatabaseCorrupted) {
		wait = 200 * time.Millisecond
	}
	before := s.fingerprint()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.rebuilds:
			return p
		case <-time.After(wait):
			// A damaged file does not heal: reading all of it again each second
			// would only burn the machine of the service beside us.
			if !lost || s.fingerprint() != before || time.Now().After(give) {
				return nil
			}
		}
	}
}

func (s *supervisor) fingerprint() string {
	var out string
	for _, p := range []string{s.o.DBPath, filepath.Join(s.o.raftDir(), "raft.db")} {
		if fi, err := os.Stat(p); err == nil {
			out += fmt.Sprintf("%d %d;", fi.Size(), fi.ModTime().UnixNano())
		} else {
			out += "gone;"
		}
	}
	return out
}

func (s *supervisor) setUnlessBlocked(db conf.DatabaseStatus, mode conf.Mode, event string, err error) {
	if now, _, _, _, _ := s.st.get(); now == conf.DatabaseLocked {
		return
	}
	s.st.set(db, mode, event, err)
}

func (s *supervisor) normalEvent(plan *rebuildPlan) string {
	defer func() { s.repaired = "" }()
	switch {
	case plan != nil:
		return "rebuilt from " + plan.source
	case s.repaired != "":
		return s.repaired
	default:
		return "started"
	}
}

// setAside moves damaged files below quarantine/, together, so that nothing is
// lost and nothing is read again.
func (s *supervisor) setAside(reason string, paths ...string) error {
	dir := filepath.Join(s.o.DataDir, "quarantine", time.Now().UTC().Format("20060102T150405.000000000Z"))
	moved := false
	for _, p := range paths {
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		if !moved {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return conf.Errorf(conf.CodeStorageFull, "cannot set %s aside: %w", p, err)
			}
			moved = true
		}
		if err := os.Rename(p, filepath.Join(dir, filepath.Base(p))); err != nil {
			return conf.Errorf(conf.CodeStorageFull, "cannot set %s aside: %w", p, err)
		}
	}
	if moved {
		s.log.Warn("set damaged files aside", "dir", dir, "reason", reason)
		return lkg.WriteJSON(filepath.Join(dir, "reason.json"), map[string]string{"reason": reason, "at": conf.FormatTime(time.Now())}, 0o600)
	}
	return nil
}

// Propose puts a command through the log of the running session.
func (s *supervisor) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	ss := s.cur.Load()
	if ss == nil {
		return command.Result{}, s.down()
	}
	return ss.member.Propose(ctx, c)
}

func (s *supervisor) down() error {
	if err := s.st.ready(); err != nil {
		return err
	}
	return conf.Errorf(conf.CodeReadOnly, "the replica is not up").WithHint("try again in a moment")
}

// writeEpochFile keeps health+epoch.json true; it writes only what changed.
func (s *supervisor) writeEpochFile(ss *session) {
	epoch, created := ss.store.Genesis()
	version, _ := ss.store.SchemaVersion()
	f := conf.EpochFile{ConfigEpoch: epoch, SchemaVersion: version, CreatedAt: created, LastRebuild: s.lastRebuild()}
	if sameEpochFile(f, s.epoch) {
		if _, err := os.Stat(s.o.EpochPath); err == nil {
			return
		}
	}
	if err := lkg.WriteJSON(s.o.EpochPath, f, 0o600); err != nil {
		s.log.Warn("writing the epoch file", "path", s.o.EpochPath, "err", err)
		return
	}
	s.epoch = f
}

func sameEpochFile(a, b conf.EpochFile) bool {
	at, bt := "", ""
	if a.LastRebuild != nil {
		at = *a.LastRebuild
	}
	if b.LastRebuild != nil {
		bt = *b.LastRebuild
	}
	return a.ConfigEpoch == b.ConfigEpoch && a.SchemaVersion == b.SchemaVersion && a.CreatedAt == b.CreatedAt && at == bt
}

// auditRow keeps one row of the access log.
func (s *supervisor) auditRow(row conf.Access) { s.audit.Record(row) }

// proposeRows writes rows of the access log, through the leader when that is
// another member. The queue has the name of this node before its own, as the
// leader sees it in the certificate.
func (s *supervisor) proposeRows(ctx context.Context, b *command.Audit) error {
	if !s.cluster.leading() {
		if leader, ok := s.cluster.leader(); ok {
			return s.cluster.call(ctx, leader, "/access", b, nil)
		}
	}
	own := *b
	own.Source = queueOf(s.cluster.self(), true, b.Source) // only servers lead
	return settled(s.Propose(ctx, &own))
}

// writable is nil while this agent itself may take a change: it is in normal
// mode and leads. What comes here otherwise was not forwarded.
func (s *supervisor) writable() error {
	if err := s.st.ready(); err != nil {
		return err
	}
	if err := s.full.Load(); err != nil {
		return *err
	}
	if err := s.lacking(); err != nil {
		return err
	}
	if !s.cluster.leading() {
		return conf.Errorf(conf.CodeNoQuorum, "this agent does not lead, and knows of no leader").
			WithHint("reads go on; try again in a moment, or see: holdfast cluster status")
	}
	return nil
}
