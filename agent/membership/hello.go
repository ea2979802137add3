package membership

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// hello takes a member's own word on its row. Each change is written on every disk, and
// the leader dials the address: both have limits.
func (m *Manager) hello(ctx context.Context, r *replica.Replica, row command.Member) (any, error) {
	if isRegistered(m, row) {
		return helloReply{}, nil
	}
	err := checkHello(ctx, m.cluster, row)
	if err == nil {
		err = m.hellos.Take(row.NodeID, 1, time.Now())
	}
	if err != nil {
		m.cluster.LogRefused("a member's change of its own row", row.NodeID, err)
		return nil, err
	}
	m.cluster.SetHeard(row.NodeID, row.Addr) // the change itself may need this member's confirmation
	return helloReply{}, m.registerMember(ctx, r, row)
}

// isRegistered reports whether a row, and the address in it for Raft, is written already.
func isRegistered(m *Manager, row command.Member) bool {
	known, ok := m.members.Find(row.NodeID)
	return ok && known.Role == row.Role && known.Service == row.Service && known.Addr == row.Addr && known.Version == row.Version &&
		slices.ContainsFunc(m.sup.Servers(), func(s replication.Server) bool { return s.ID == row.NodeID && s.Addr == row.Addr })
}

// checkHello rejects a row that no agent sends, and an address of another host.
func checkHello(ctx context.Context, c *peers.Cluster, row command.Member) error {
	if len(row.Service) > conf.MaxName || len(row.Version) > conf.MaxName {
		return conf.Errorf(conf.CodeInvalid, "the service or the version of member %s is longer than %d bytes", row.NodeID, conf.MaxName).
			WithHint("look at that agent: no build sends this")
	}
	host, port, err := net.SplitHostPort(row.Addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || len(host) > 253 {
		return conf.Errorf(conf.CodeInvalid, "the address of member %s is not host:port", row.NodeID).
			WithHint("set CONFIG_CLUSTER_ADDR there to the address that other members reach")
	}
	from := peers.CallerHost(ctx)
	known := c.RegisteredHosts(row.NodeID)
	if isHost(host, from) {
		return nil
	}
	for _, name := range known {
		if strings.EqualFold(name, host) {
			return nil
		}
	}
	if len(known) == 0 { // a rebuilt store has no members
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		for _, ip := range found {
			if err == nil && isHost(ip, from) {
				return nil
			}
		}
	}
	return conf.Errorf(conf.CodeDenied, "member %s gives the address %s: it calls from another host, and is not registered with that name", row.NodeID, row.Addr).
		WithHint("give the address it calls from, or the host it joined with; for another name: holdfast cluster remove %s, and join again", row.NodeID)
}

// isHost reports whether host is the address ip.
func isHost(host string, ip netip.Addr) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && ip.IsValid() && a.Unmap().WithZone("") == ip
}
