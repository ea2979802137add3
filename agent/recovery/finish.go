package recovery

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Finish starts the new epoch of a recovered store with all that is there: every
// service gets its next version, signed for the new epoch, and the old members are
// removed. It returns the event for health. It is safe to repeat after it was cut
// short.
func (m *Manager) Finish(ctx context.Context, rep Replica, p *Pending) (event string, err error) {
	now := time.Now()
	at := conf.FormatTime(now)
	reason := cmp.Or(p.Reason, "cluster recovered on "+p.NodeID)
	if rep.Store().Epoch() != p.Epoch {
		if err := propose(ctx, rep, &command.Genesis{
			Epoch: p.Epoch, At: at, NodeID: p.NodeID, Reason: reason, Keep: true, Signed: m.o.Keys.SignEpoch(p.OldEpoch, p.Epoch, now),
		}); err != nil {
			return "", err
		}
	}
	if p.FromBackup() {
		if err := m.revokeRestoredTokens(ctx, rep, at); err != nil {
			return "", err
		}
	}
	old, services, err := m.recordsOfOldEpoch(ctx, rep, p)
	if err != nil {
		return "", err
	}
	if err := m.moveToEpoch(ctx, rep, p.Epoch, reason, now, old); err != nil {
		return "", err
	}
	removed, err := m.settleMembers(ctx, rep, p.NodeID, reason, at)
	if err != nil {
		return "", err
	}
	// An agent that joins gets a snapshot first. One of before the recovery has the keys of
	// before: the agent would refuse this one, from which alone it can get newer ones.
	if err := rep.Node().Snapshot(ctx); err != nil {
		return "", fmt.Errorf("snapshot of the recovered store: %w", err)
	}
	info := Info{
		ConfigEpoch: p.Epoch, OldEpoch: p.OldEpoch, RebuiltAt: at, Source: p.Source, Reason: reason, Services: services, Dropped: []string{},
	}
	if err := info.Write(m.o.Options); err != nil {
		return "", err
	}
	members, err := rep.Store().Queries.Members(ctx)
	if err != nil {
		return "", err
	}
	keys, err := rep.Store().Queries.MemberKeys(ctx)
	if err != nil {
		return "", err
	}
	m.o.Cluster.Set(members, keys)
	m.log.Warn("the cluster continues on this agent alone, with a new epoch", "epoch", p.Epoch, "old", p.OldEpoch, "services", len(services), "removed", removed)
	return reason + ": the others have to join anew", DropPending(m.o.Options)
}

// propose is the error of a proposal, or else of its result.
func propose(ctx context.Context, rep Replica, c command.Command) error {
	res, err := rep.Node().Propose(ctx, c)
	if err == nil && res.Err != nil {
		return res.Err
	}
	return err
}

// recordsOfOldEpoch lists the records that have to move to the new epoch, and the
// services that exist. A record of the last-known-good file that is newer than the
// backup replaces the stored one: its stable values, not what that agent served of a rollout.
func (m *Manager) recordsOfOldEpoch(ctx context.Context, rep Replica, p *Pending) (old []*conf.Record, services []string, err error) {
	services = []string{}
	newer := map[string]*conf.Record{}
	trusted := m.o.Keys.PublicKeys()
	for _, rec := range p.newer {
		if rec.Epoch == p.OldEpoch && VerifyRecord(rec, trusted) == nil {
			newer[rec.Service] = rec
		}
	}
	err = rep.Store().Queries.Records(ctx, func(rec *conf.Record) error {
		if n := newer[rec.Service]; n != nil && rec.Epoch == n.Epoch && n.Version > rec.Version {
			// Acknowledged after the backup was made. The number is that of the store.
			up := *n
			up.Version, up.Secrets, up.Staged = rec.Version, rec.Secrets, rec.Staged
			rec = &up
		}
		delete(newer, rec.Service)
		if rec.Version > 0 && rec.Epoch != p.Epoch {
			old = append(old, rec)
		}
		if rec.Exists() {
			services = append(services, rec.Service)
		}
		return nil
	})
	for _, rec := range newer { // services that the backup does not have
		up := *rec
		up.Version, up.Staged = 0, nil
		old = append(old, &up)
		if rec.Exists() {
			services = append(services, rec.Service)
		}
	}
	return old, services, err
}

// moveToEpoch signs the records for an epoch, as their next version, in batches. A record has
// the stable values, whatever rollout of it ran: its end is in the entry that began the epoch.
func (m *Manager) moveToEpoch(ctx context.Context, rep Replica, epoch, reason string, now time.Time, old []*conf.Record) error {
	signer := m.o.Keys.Signer()
	for len(old) > 0 {
		ed := &command.Edit{Epoch: epoch, At: conf.FormatTime(now), By: "recover", Reason: reason, Action: command.ActionRebuild}
		for size := 0; len(old) > 0 && size < command.MaxSize/8; old = old[1:] {
			rec := old[0]
			msg := signer.Sign(rec.Service, rec.Config, epoch, now)
			ed.Updates = append(ed.Updates, command.Update{
				Service: rec.Service, Prev: rec.Version, Version: rec.Floor() + 1, Values: rec.Values, Config: rec.Config,
				Checksum: msg.Checksum, IssuedAt: msg.IssuedAt, Signature: msg.Signature, KeyID: signer.KeyID(), Deleted: rec.Deleted,
				UpdatedAt: rec.UpdatedAt, UpdatedBy: rec.UpdatedBy,
			})
			sealed, unopened, err := edit.Reseal(m.o.Sealer, rec, epoch)
			if err != nil {
				return err
			}
			m.logUnopened(unopened)
			ed.Secrets = append(ed.Secrets, sealed...)
			size += len(rec.Values) + len(rec.Config)
			for _, s := range sealed {
				size += len(s.EncryptedValue)
			}
		}
		if err := propose(ctx, rep, ed); err != nil {
			return err
		}
	}
	return nil
}

// settleMembers removes all members but node, which is this agent, and has its rows accept
// the key that this agent has now: a restored agent has made a new one.
func (m *Manager) settleMembers(ctx context.Context, rep Replica, node, reason, at string) ([]string, error) {
	members, err := rep.Store().Queries.Members(ctx)
	if err != nil {
		return nil, err
	}
	own := m.o.Cluster.Port.Identity().Peer().Key
	out := &command.Cluster{At: at, By: "recover", Audit: []conf.Access{{UserID: "recover", Action: "write", Success: true, Reason: reason, Timestamp: at}}}
	for _, row := range members {
		switch {
		case row.RemovedAt != "":
		case row.NodeID != node:
			out.MemberRemoves = append(out.MemberRemoves, row.NodeID)
		default:
			out.Members = []command.Member{{NodeID: node, Role: row.Role, Service: row.Service, Addr: row.Addr, Version: row.Version, KeyHash: own}}
		}
	}
	return out.MemberRemoves, propose(ctx, rep, out)
}
