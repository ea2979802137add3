package membership

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// Tokens lists the join tokens, without anything to join with.
func (m *Manager) Tokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return replica.Query(m.sup, func(st *store.Store) ([]conf.JoinTokenInfo, error) { return st.Queries.JoinTokens(ctx) })
}

// CreateToken makes a join token. It is shown once.
func (m *Manager) CreateToken(ctx context.Context, who conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	rep, err := m.sup.LeaderReplica()
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	return m.newToken(ctx, rep, who.Name, req)
}

// RevokeToken revokes a join token. Agents that joined by it stay members.
func (m *Manager) RevokeToken(ctx context.Context, who conf.Principal, id string) error {
	rep, err := m.sup.LeaderReplica()
	if err != nil {
		return err
	}
	at := conf.FormatTime(m.o.Clock())
	return rep.Propose(ctx, &command.Cluster{
		At: at, By: who.Name, TokenRevokes: []string{id},
		Audit: []conf.Access{{UserID: who.Name, Action: "write", Success: true, Reason: "join token " + id + " revoked", Timestamp: at}},
	})
}

// newToken stores a join token and returns what to paste.
func (m *Manager) newToken(ctx context.Context, rep *replica.Replica, by string, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	if _, err := pki.ParseRole(req.Role); err != nil {
		return conf.NewJoinToken{}, err
	}
	if req.Service != "" {
		if err := conf.CheckService(req.Service); err != nil {
			return conf.NewJoinToken{}, err
		}
	}
	id := m.cluster.Port.Identity()
	if len(id.CAs) == 0 {
		return conf.NewJoinToken{}, conf.Errorf(conf.CodeInternal, "this agent has no CA")
	}
	t := transport.NewToken(pki.HashCA(id.CAs[0]))
	now := m.o.Clock()
	at, expires := conf.FormatTime(now), ""
	if req.TTL > 0 {
		expires = conf.FormatTime(now.Add(req.TTL))
	}
	err := rep.Propose(ctx, &command.Cluster{
		At: at, By: by,
		Tokens: []command.JoinToken{{ID: t.ID, SecretHash: transport.HashSecret(t.Secret), Role: req.Role, Service: req.Service, ExpiresAt: expires, CreatedBy: by, Uses: req.Uses}},
		Audit:  []conf.Access{{UserID: by, Action: "write", Success: true, Reason: "join token " + t.ID + " created for a " + req.Role, Timestamp: at}},
	})
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	cmd := fmt.Sprintf("holdfast agent --join %s --token %s", m.cluster.Port.Addr(), t)
	if req.Service != "" {
		cmd += " --service " + req.Service
	}
	return conf.NewJoinToken{ID: t.ID, Token: t.String(), Command: cmd, ExpiresAt: expires}, nil
}

// WriteTokenFiles writes reusable tokens of each role to files that only this user can
// read, for compose and systemd. The agent that starts a cluster does it.
func (m *Manager) WriteTokenFiles(ctx context.Context, rep *replica.Replica) {
	writeTokenFile(ctx, m, rep, m.o.ServerTokenPath, conf.JoinTokenRequest{Role: string(pki.RoleServer)})
	for path, service := range m.o.SidecarTokens() {
		writeTokenFile(ctx, m, rep, path, conf.JoinTokenRequest{Role: string(pki.RoleSidecar), Service: service})
	}
}

func writeTokenFile(ctx context.Context, m *Manager, rep *replica.Replica, path string, req conf.JoinTokenRequest) {
	if path == "none" || m.IsOwnToken(path) && isStoredToken(ctx, rep, path) {
		return
	}
	req.TTL = 10 * 365 * 24 * time.Hour
	t, err := m.newToken(ctx, rep, "bootstrap", req)
	if err == nil {
		err = process.ReplaceLine(path, 0o600, t.Token)
	}
	if err != nil {
		m.log.Warn("no join token was written to a file", "role", req.Role, "service", req.Service, "path", path, "err", err,
			"hint", "the directory has to be writable for the user that the agent runs as")
	}
}

// IsOwnToken reports whether the file holds a token of this cluster: one that an
// earlier cluster left in a shared directory admits nobody.
func (m *Manager) IsOwnToken(path string) bool {
	t, err := transport.ReadTokenFile(path)
	id := m.cluster.Port.Identity()
	return err == nil && len(id.CAs) > 0 && t.CAHash == pki.HashCA(id.CAs[0])
}

// isStoredToken reports whether the store has the token of a file, revoked or not: one
// that was rebuilt has none.
func isStoredToken(ctx context.Context, rep *replica.Replica, path string) bool {
	t, err := transport.ReadTokenFile(path)
	if err != nil {
		return false
	}
	_, _, err = rep.Store().Queries.JoinToken(ctx, t.ID)
	return conf.CodeOf(err) != conf.CodeNotFound
}

// RenewTokenFiles replaces the join tokens in the files of the agent that started the
// cluster: those of an old CA end with it.
func (m *Manager) RenewTokenFiles(ctx context.Context, rep *replica.Replica) {
	for _, path := range append(conf.SortedKeys(m.o.SidecarTokens()), m.o.ServerTokenPath) {
		if _, err := os.Stat(path); path != "none" && err == nil && !m.IsOwnToken(path) {
			m.WriteTokenFiles(ctx, rep)
		}
	}
}
