package agent

import (
	"context"
	"crypto/subtle"
	"errors"
	"os"
	"time"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// rebuildPlan says from what a lost store is made anew.
type rebuildPlan struct {
	reason   string
	source   string // memory, lkg, defaults
	oldEpoch string
	recs     []*conf.Record

	result chan error // capacity 1; nil for an automatic rebuild
}

// rebuildFault ends a session because somebody asked for a rebuild.
type rebuildFault struct{ plan *rebuildPlan }

func (*rebuildFault) Error() string { return "a rebuild was asked for" }

func (p *rebuildPlan) finish(err error) {
	select {
	case p.result <- err:
	default:
	}
}

// RebuildInfo is rebuild.info: what the last rebuild was made from.
type RebuildInfo struct {
	ConfigEpoch string   `json:"config_epoch"`
	OldEpoch    string   `json:"old_epoch"`
	RebuiltAt   string   `json:"rebuilt_at"`
	Source      string   `json:"source"` // backup, memory, lkg, defaults, cluster; log or database after a recovery
	Reason      string   `json:"reason"`
	Services    []string `json:"services"`
	Dropped     []string `json:"dropped"` // services whose values were refused: they are at their defaults
}

// newPlan is the wish for a rebuild.
func newPlan(reason string) *rebuildPlan {
	return &rebuildPlan{reason: reason, result: make(chan error, 1)}
}

// collect takes what is proven: what the view got from a verified replica or
// last-known-good file. With nothing of that the services start from the
// defaults of the schema directory. No session runs, so nothing is written
// meanwhile that the new store would miss.
func (p *rebuildPlan) collect(v *liveView) {
	snap := v.Load()
	p.oldEpoch, p.recs = snap.Epoch, nil
	switch snap.Source {
	case view.SourceReplica:
		p.source = "memory"
	case view.SourceLKG:
		p.source = "lkg"
	default:
		p.source = "defaults"
		return
	}
	snap.Range(func(e *entry) bool {
		p.recs = append(p.recs, e.Record)
		return true
	})
}

// begin makes sure that a rebuild which is cut short is begun again: from the
// marker on, what the plan collects stands in the last-known-good file, and no
// session goes live before the new store is filled.
func (s *supervisor) begin(ctx context.Context, p *rebuildPlan) error {
	p.collect(s.view)
	if p.source == "memory" {
		if err := s.lkg.Flush(ctx); err != nil {
			return conf.Errorf(conf.CodeStorageFull, "a rebuild needs a good last-known-good file first: %w", err)
		}
	}
	return lkg.WriteJSON(s.o.rebuildPending(), map[string]string{"reason": p.reason}, 0o600)
}

// unfinished is the rebuild that was cut short, nil when there is none.
func (s *supervisor) unfinished() *rebuildPlan {
	data, err := os.ReadFile(s.o.rebuildPending())
	if err != nil {
		return nil
	}
	var was struct {
		Reason string `json:"reason"`
	}
	if err := conf.DecodeStrict(data, conf.MaxDocument, &was); err != nil || was.Reason == "" {
		was.Reason = "one that was cut short"
	}
	return newPlan(was.Reason)
}

// refill puts the plan's records into the new epoch and writes rebuild.info.
func (ss *session) refill(ctx context.Context, p *rebuildPlan) error {
	ed := edit.New(edit.Options{
		Proposer: ss.member, Records: fixedEpoch(ss.store.Epoch()), Archive: ss.store, Schemas: ss.s.schemas,
		Vault: ss.s.vault, Signer: ss.s.signer, Ready: func() error { return nil },
	})
	who := conf.Principal{Name: "rebuild", Role: conf.RoleWrite}
	dropped, lost, err := ed.Refill(ctx, who, p.recs, p.reason)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		ss.s.log.Warn("secrets did not open and have to be set again", "secrets", lost)
	}
	now := conf.FormatTime(time.Now())
	row := conf.Access{UserID: who.Name, Action: "write", Success: true, Reason: "rebuild from " + p.source + ": " + p.reason, Timestamp: now}
	if _, err := ss.member.Propose(ctx, &command.Audit{Rows: []conf.Access{row}}); err != nil {
		return err
	}
	info := RebuildInfo{
		ConfigEpoch: ss.store.Epoch(), OldEpoch: p.oldEpoch, RebuiltAt: now, Source: p.source, Reason: p.reason,
		Services: []string{}, Dropped: append([]string{}, dropped...),
	}
	for _, r := range p.recs {
		if !r.Deleted {
			info.Services = append(info.Services, r.Service)
		}
	}
	return lkg.WriteJSON(ss.s.o.rebuildInfo(), info, 0o600)
}

// signEpoch proves to who followed the epoch old that next follows on it; nil when
// nothing was there to follow.
func (s *supervisor) signEpoch(old, next string, at time.Time) *conf.EpochChange {
	if old == "" || len(s.keys.Get().Private) == 0 {
		return nil
	}
	c := s.signer().SignEpoch(old, next, at)
	return &c
}

// fixedEpoch is the state of a store that was just begun.
type fixedEpoch string

func (fixedEpoch) Record(string) *conf.Record { return nil }
func (fixedEpoch) Services() []*conf.Record   { return nil }
func (e fixedEpoch) Epoch() string            { return string(e) }

// lastRebuild is the time in rebuild.info, nil when there is none.
func (s *supervisor) lastRebuild() *string {
	data, err := os.ReadFile(s.o.rebuildInfo())
	if err != nil {
		return nil
	}
	var info RebuildInfo
	if err := conf.DecodeStrict(data, conf.MaxDocument, &info); err != nil || info.RebuiltAt == "" {
		return nil
	}
	return &info.RebuiltAt
}

// Rebuild makes a new store with a new epoch from what this agent can prove, at
// the demand of somebody who knows REBUILD_TOKEN. It answers when the new store
// serves. A healthy store is replaced too: whoever asks has the token for it,
// and the old files stay under quarantine/.
func (s *supervisor) Rebuild(ctx context.Context, token string) error {
	want := s.keys.Get().RebuildToken
	if want == "" || subtle.ConstantTimeCompare([]byte(token), []byte(want)) != 1 {
		return conf.Errorf(conf.CodeDenied, "wrong rebuild token").WithHint("send the value of REBUILD_TOKEN in the .env file of this agent")
	}
	if !s.cluster.alone() {
		return oneOfSeveral()
	}
	p := newPlan("by hand")
	select {
	case s.rebuilds <- p:
	case <-ctx.Done():
		return conf.Errorf(conf.CodeReadOnly, "the agent is busy starting or rebuilding: %w", ctx.Err()).WithHint("try again in a moment")
	}
	select {
	case err := <-p.result:
		if err != nil && errors.Is(err, context.Canceled) {
			return conf.Errorf(conf.CodeOutcomeUnknown, "the agent stopped during the rebuild")
		}
		return err
	case <-ctx.Done():
		return conf.Errorf(conf.CodeOutcomeUnknown, "the rebuild goes on: %w", ctx.Err()).WithHint("GET /api/config/health tells how it ends")
	}
}
