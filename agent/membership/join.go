package membership

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Identity returns who this agent is: as it was, by a join, or the first of a new
// cluster. joining is called before it joins, and what it returns afterwards.
func (m *Manager) Identity(ctx context.Context, joining func() (done func() error)) (*pki.Identity, error) {
	id, err := pki.LoadIdentity(m.o.TLSDir())
	switch {
	case err == nil:
		m.members.AssumeCluster(id.ClusterID)
		// The certificate is the truth: it was saved last when this agent rejoined as a
		// later incarnation.
		node := m.members.Self()
		if conf.IsLaterIncarnation(node, id.NodeID) {
			node = id.NodeID
			m.members.SetSelf(node)
		}
		if now := m.o.Clock(); id.Role == pki.RoleServer && id.CA != nil && (id.Expired(now) || id.NotYetValid(now)) {
			if id, err = id.Redate(pki.DefaultTTL, now); err != nil {
				return nil, err
			}
			if err := id.Save(m.o.TLSDir()); err != nil {
				return nil, err
			}
		}
		return id, id.Match(m.members.ClusterID(), node)
	case conf.CodeOf(err) != conf.CodeNotFound:
		return nil, err
	case m.members.LogOwner() != "" && !m.members.IsSingleNode():
		return nil, conf.Errorf(conf.CodeCorrupt, "the identity of this agent in %s is missing, and its cluster has other members", m.o.TLSDir()).
			WithHint("put the directory back; or join again: an empty data directory, --join and a new token, and holdfast cluster remove %s on a member", m.members.Self())
	case m.o.Join != "":
		return m.join(ctx, joining)
	}
	clusterID := uuid.NewString()
	if id, err = pki.Bootstrap(clusterID, m.members.Self(), pki.DefaultTTL, m.o.Clock()); err != nil {
		return nil, err
	}
	// The file first: an identity without it means a member that lost it.
	if err := m.members.Start(peers.SavedState{ClusterID: clusterID}); err != nil {
		return nil, err
	}
	return id, id.Save(m.o.TLSDir())
}

// join makes this agent a member of the cluster at CONFIG_JOIN.
func (m *Manager) join(ctx context.Context, joining func() (done func() error)) (_ *pki.Identity, err error) {
	if recovery.ExistingFiles(m.o) != (recovery.Files{}) {
		return nil, conf.Errorf(conf.CodeConflict, "%s holds the data of another cluster", m.o.DataDir).
			WithHint("join with an empty data directory; move %s away if its data is not needed", m.o.DataDir)
	}
	if joining != nil {
		done := joining()
		defer func() {
			if e := done(); err == nil {
				err = e
			}
		}()
	}
	token, err := m.joinToken(ctx)
	if err != nil {
		return nil, err
	}
	key, err := pki.NodeKey(m.o.TLSDir())
	if err != nil {
		return nil, err
	}
	adv := m.o.Advertise()
	if adv == "" {
		return nil, conf.Errorf(conf.CodeUsage, "a joining agent needs a port that others can reach").
			WithHint("set CONFIG_CLUSTER_ADDR to host:port with a fixed port")
	}
	var g *transport.Grant
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		g, err = transport.Join(ctx, transport.JoinOptions{
			Addr: m.o.Join, Token: token, Key: key, NodeID: m.members.Self(), Version: m.o.Version, Advertise: adv, Timeout: 10 * time.Second, Now: m.o.Clock,
		})
		if err == nil {
			break
		}
		switch conf.CodeOf(err) {
		case conf.CodeDenied, conf.CodeConflict, conf.CodeInvalid, conf.CodeMalformed, conf.CodeUsage, conf.CodeUnauthenticated:
			return nil, err
		}
		m.log.Warn("joining: trying again", "at", m.o.Join, "in", wait, "err", err, "hint", conf.HintOf(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, conf.Errorf(conf.CodeNoQuorum, "joining at %s was given up: %w", m.o.Join, ctx.Err())
		}
	}
	var lines []string
	if err := json.Unmarshal(g.Keys, &lines); err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the key material of the cluster does not decode: %w", err)
	}
	if err := keys.Import(m.o.Env, m.o.EnvFile, lines, keys.Options{Role: string(g.Identity.Role)}); err != nil {
		return nil, err
	}
	saved := peers.SavedState{ClusterID: g.ClusterID, Joined: true}
	for _, other := range g.Members {
		saved.Members = append(saved.Members, conf.Member{NodeID: other.NodeID, Role: string(other.Role), Addr: other.Addr})
	}
	if err := m.members.Start(saved); err != nil {
		return nil, err
	}
	// Last: without an identity the next start joins again.
	if err := g.Identity.Save(m.o.TLSDir()); err != nil {
		return nil, err
	}
	m.log.Info("joined the cluster", "cluster", g.ClusterID, "role", g.Identity.Role, "members", len(g.Members))
	return g.Identity, nil
}

// joinToken is the token to join with, from the setting or from its file. It
// waits for the file: the agent that starts the cluster may be yet to write it.
func (m *Manager) joinToken(ctx context.Context) (string, error) {
	if m.o.JoinToken != "" {
		return m.o.JoinToken, nil
	}
	path := m.o.JoinTokenFile
	if path == "" {
		return "", conf.Errorf(conf.CodeUsage, "no token to join with").
			WithHint("on a member: holdfast token create --role server; then set CONFIG_JOIN_TOKEN or CONFIG_JOIN_TOKEN_FILE")
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		data, err := os.ReadFile(path)
		if token := strings.TrimSpace(string(data)); token != "" {
			return token, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", conf.Errorf(conf.CodeUsage, "reading the join token: %w", err).WithHint("set CONFIG_JOIN_TOKEN_FILE to a file that holds the token")
		}
		if n%150 == 0 {
			m.log.Info("joining: waiting for the file with the join token", "path", path)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", conf.Errorf(conf.CodeUsage, "no join token in %s: %w", path, ctx.Err()).
				WithHint("the agent that starts the cluster keeps one in its data directory: CONFIG_SERVER_TOKEN_PATH, CONFIG_SIDECAR_TOKEN_PATH")
		}
	}
}
