package membership

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// loadMembers takes the rows of the members and their keys over from the store.
func loadMembers(ctx context.Context, rep *replica.Replica, list *peers.MemberList) ([]conf.Member, bool) {
	q := rep.Store().Queries
	members, err := q.Members(ctx)
	if err != nil {
		return nil, false
	}
	keys, err := q.MemberKeys(ctx)
	if err != nil {
		return nil, false
	}
	list.Set(members, keys)
	return members, true
}

// proposeWithKeys proposes a change of members with their keys; without them while a voter
// runs a build that cannot apply them. MemberKeys records them later then.
func proposeWithKeys(ctx context.Context, rep *replica.Replica, c *command.Cluster) (command.Result, error) {
	res, err := rep.Node().Propose(ctx, c)
	if conf.CodeOf(err) != conf.CodeUnsupported {
		return res, err
	}
	bare := *c
	bare.Members = slices.Clone(c.Members)
	for i := range bare.Members {
		bare.Members[i].KeyHash = ""
	}
	return rep.Node().Propose(ctx, &bare)
}

// MemberKeys record the keys that members are admitted with.
type MemberKeys struct {
	cluster *peers.Cluster
	sup     *replica.Supervisor
	clock   func() time.Time
	log     *slog.Logger
}

// NewMemberKeys makes the recorder. Attach comes before the cluster port starts.
func NewMemberKeys(c *peers.Cluster, clock func() time.Time, log *slog.Logger) *MemberKeys {
	return &MemberKeys{cluster: c, clock: clock, log: log}
}

// Attach has the cluster port ask for another key of a member.
func (k *MemberKeys) Attach(s *replica.Supervisor) {
	k.sup = s
	k.cluster.HandleNewKeys(k.admit)
}

// recordEvery is the time between two looks for members without a key.
const recordEvery = time.Second

// Run is a leader job. A row that an earlier build has written has no key, nor has that of
// the first server: the key that the leader finds at the address of the member is
// recorded as soon as every voter can apply that.
func (k *MemberKeys) Run(ctx context.Context, rep *replica.Replica) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		if err := k.record(ctx, rep); err != nil && ctx.Err() == nil {
			k.log.Debug("the keys of members are not recorded yet", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (k *MemberKeys) record(ctx context.Context, rep *replica.Replica) error {
	if !rep.IsReadyLeader() || !rep.IsCurrent() {
		return nil
	}
	k.cluster.Saw(k.cluster.Port.Identity().Peer())
	for node, key := range k.cluster.Unrecorded() {
		if err := k.put(ctx, rep, node, key); err != nil {
			return err
		}
		k.log.Info("the key of a member is recorded: certificates of earlier admissions are not accepted", "node", node)
	}
	return nil
}

// put admits one more key of a member.
func (k *MemberKeys) put(ctx context.Context, rep *replica.Replica, node, key string) error {
	row, ok := k.cluster.Find(node)
	if !ok {
		return conf.Errorf(conf.CodeDenied, "%s is not a member", node)
	}
	err := rep.Propose(ctx, &command.Cluster{
		At: conf.FormatTime(k.clock()), By: k.cluster.Self(),
		Members: []command.Member{{NodeID: node, Role: row.Role, Service: row.Service, Addr: row.Addr, Version: row.Version, KeyHash: key}},
	})
	if err == nil {
		loadMembers(ctx, rep, k.cluster.MemberList)
	}
	return err
}

// admit has the cluster accept another key for a member, which a build of before keys were
// recorded makes for each certificate. While such a build votes there is nothing to do.
func (k *MemberKeys) admit(ctx context.Context, p pki.Peer) error {
	rep, err := k.sup.LeaderReplica()
	if err != nil {
		return err
	}
	err = k.put(ctx, rep, p.NodeID, p.Key)
	if conf.CodeOf(err) == conf.CodeUnsupported {
		return nil
	}
	return err
}
