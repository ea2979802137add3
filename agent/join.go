package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// join makes this agent a member of the cluster at CONFIG_JOIN. It is done
// before anything else exists, and can be repeated: the key stays the same, so
// that a retry is known for one.
func (c *cluster) join(ctx context.Context) (_ *transport.Identity, err error) {
	t := (&supervisor{o: c.o}).traces()
	if t.db || t.raft || t.other {
		return nil, conf.Errorf(conf.CodeConflict, "%s holds the data of another cluster", c.o.DataDir).
			WithHint("join with an empty data directory; move %s away if its data is not needed", c.o.DataDir)
	}
	if c.joining != nil {
		done := c.joining()
		defer func() {
			if e := done(); err == nil {
				err = e
			}
		}()
	}
	token, err := c.joinToken(ctx)
	if err != nil {
		return nil, err
	}
	key, err := transport.NodeKey(c.o.tlsDir())
	if err != nil {
		return nil, err
	}
	adv := c.o.advertise()
	if adv == "" {
		return nil, conf.Errorf(conf.CodeUsage, "a joining agent needs a port that others can reach").
			WithHint("set CONFIG_CLUSTER_ADDR to host:port with a fixed port")
	}
	var g *transport.Grant
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		g, err = transport.Join(ctx, transport.JoinOptions{
			Addr: c.o.Join, Token: token, Key: key, NodeID: c.o.NodeID, Version: c.o.Version, Advertise: adv, Timeout: 10 * time.Second,
		})
		if err == nil {
			break
		}
		switch conf.CodeOf(err) {
		case conf.CodeDenied, conf.CodeConflict, conf.CodeInvalid, conf.CodeMalformed, conf.CodeUsage, conf.CodeUnauthenticated:
			return nil, err
		}
		c.log.Warn("joining: trying again", "at", c.o.Join, "in", wait, "err", err, "hint", conf.HintOf(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, conf.Errorf(conf.CodeNoQuorum, "joining at %s was given up: %w", c.o.Join, ctx.Err())
		}
	}
	var lines []string
	if err := json.Unmarshal(g.Keys, &lines); err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the key material of the cluster does not decode: %w", err)
	}
	if err := keys.Import(c.o.Env, c.o.EnvFile, lines, keys.Options{Role: string(g.Identity.Role)}); err != nil {
		return nil, err
	}
	c.known = clusterFile{ClusterID: g.ClusterID, Joined: true}
	for _, m := range g.Members {
		c.known.Members = append(c.known.Members, conf.Member{NodeID: m.NodeID, Role: string(m.Role), Addr: m.Addr})
	}
	if err := c.writeFile(); err != nil {
		return nil, err
	}
	// Last: without an identity the next start joins again.
	if err := g.Identity.Save(c.o.tlsDir()); err != nil {
		return nil, err
	}
	c.log.Info("joined the cluster", "cluster", g.ClusterID, "role", g.Identity.Role, "members", len(g.Members))
	return g.Identity, nil
}

// joinToken is the token to join with, from the setting or from its file. It
// waits for the file: the agent that starts the cluster may be yet to write it.
func (c *cluster) joinToken(ctx context.Context) (string, error) {
	if c.o.JoinToken != "" {
		return c.o.JoinToken, nil
	}
	path := c.o.JoinTokenFile
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
			c.log.Info("joining: waiting for the file with the join token", "path", path)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", conf.Errorf(conf.CodeUsage, "no join token in %s: %w", path, ctx.Err()).
				WithHint("the agent that starts the cluster keeps one in its data directory: CONFIG_SERVER_TOKEN_PATH, CONFIG_SIDECAR_TOKEN_PATH")
		}
	}
}

// joiner lets agents in. Only servers hold the CA's key.
func (c *cluster) joiner(id *transport.Identity) transport.Joiner {
	if id.Role != transport.RoleServer || id.CA == nil {
		return nil
	}
	return letIn{c}
}

type letIn struct{ c *cluster }

// Join implements transport.Joiner. A server that does not lead has the leader
// count the use, and issues the certificate itself.
func (l letIn) Join(ctx context.Context, r transport.JoinRequest) (transport.JoinGrant, error) {
	leader, err := l.c.awaitLeader(ctx)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	if leader != l.c.self() {
		var g transport.JoinGrant
		err := l.c.call(ctx, leader, "/join", r, &g)
		return g, joinError(err)
	}
	return l.c.admit(ctx, r)
}

// joinError keeps the refusal of a token one and the same on its way back.
func joinError(err error) error {
	if conf.CodeOf(err) == conf.CodeDenied {
		return &transport.TokenError{Reason: transport.TokenUnknown}
	}
	return err
}

// admit decides on a join; this agent leads.
func (c *cluster) admit(ctx context.Context, r transport.JoinRequest) (transport.JoinGrant, error) {
	ss := c.s.cur.Load()
	if ss == nil {
		return transport.JoinGrant{}, c.s.down()
	}
	now := time.Now()
	stored, info, err := ss.store.JoinToken(ctx, r.TokenID)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return transport.JoinGrant{}, err
	}
	refuse := func(reason transport.TokenReason) (transport.JoinGrant, error) {
		c.s.auditRow(conf.Access{UserID: "join:" + r.NodeID, Action: "unauthorized", Reason: "join token " + string(reason), Timestamp: conf.FormatTime(now)})
		return transport.JoinGrant{}, &transport.TokenError{Reason: reason}
	}
	if reason := refusal(stored, info, r, conf.FormatTime(now), err == nil); reason != "" {
		return refuse(reason)
	}
	role, err := transport.ParseRole(info.Role)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	at := conf.FormatTime(now)
	res, err := ss.member.Propose(ctx, &command.Cluster{
		At: at, By: "join:" + r.NodeID,
		Uses:    []command.TokenUse{{TokenID: r.TokenID, NodeID: r.NodeID, KeyHash: r.KeyHash()}},
		Members: []command.Member{{NodeID: r.NodeID, Role: info.Role, Service: info.Service, Addr: r.Advertise, Version: r.Version}},
		Audit:   []conf.Access{{UserID: "join:" + r.NodeID, Action: "write", Success: true, Reason: fmt.Sprintf("joined as %s by token %s", info.Role, r.TokenID), Timestamp: at}},
	})
	switch {
	case err != nil:
		return transport.JoinGrant{}, err
	case res.Err != nil && res.Err.Code == conf.CodeDenied:
		return refuse(transport.TokenUsed)
	case res.Err != nil:
		return transport.JoinGrant{}, res.Err
	}
	if err := ss.member.AddNonvoter(ctx, r.NodeID, r.Advertise); err != nil {
		return transport.JoinGrant{}, err
	}
	return c.grant(ss, r, role, info.Service, now)
}

// refusal is why a token lets nobody in, "" when it does. It compares the secret
// in constant time, for an unknown token too.
func refusal(stored command.JoinToken, info conf.JoinTokenInfo, r transport.JoinRequest, at string, known bool) transport.TokenReason {
	t := &transport.JoinToken{SecretHash: stored.SecretHash}
	if !known {
		t = nil
	}
	if err := t.Check(r.Secret, r.KeyHash(), time.Now()); err != nil {
		if !known {
			return transport.TokenUnknown
		}
		return transport.TokenForged
	}
	switch info.Refusal(at) {
	case "revoked":
		return transport.TokenRevoked
	case "expired":
		return transport.TokenExpired
	}
	return "" // used up: the log knows whether it is the same joiner again
}

func (c *cluster) grant(ss *session, r transport.JoinRequest, role transport.Role, service string, now time.Time) (transport.JoinGrant, error) {
	id := c.port.Identity()
	cert, err := id.CA.Issue(r.CSR, r.NodeID, role, transport.DefaultTTL, now)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	lines, err := c.s.keys.Get().SidecarLines(service)
	if role == transport.RoleServer {
		lines, err = c.s.keys.Get().Export()
	}
	if err != nil {
		return transport.JoinGrant{}, err
	}
	material, err := json.Marshal(lines)
	if err != nil {
		return transport.JoinGrant{}, err
	}
	g := transport.JoinGrant{Certificate: cert.Raw, ClusterID: id.ClusterID, Epoch: ss.store.Epoch(), Keys: material}
	if role == transport.RoleServer {
		// Any server lets others in, also when the first one is gone for ever.
		if g.CAKey, err = id.CA.KeyPEM(); err != nil {
			return transport.JoinGrant{}, err
		}
	}
	for _, ca := range id.CAs {
		g.CAs = append(g.CAs, ca.Raw)
	}
	for _, m := range c.members() {
		role, err := transport.ParseRole(m.Role)
		if err != nil || m.Addr == "" {
			continue
		}
		g.Members = append(g.Members, transport.Member{NodeID: m.NodeID, Role: role, Addr: m.Addr})
	}
	return g, nil
}

// newToken stores a join token and answers what to paste.
func (c *cluster) newToken(ctx context.Context, ss *session, by string, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	role, err := transport.ParseRole(req.Role)
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	if req.Service != "" {
		if err := conf.CheckService(req.Service); err != nil {
			return conf.NewJoinToken{}, err
		}
	}
	id := c.port.Identity()
	if len(id.CAs) == 0 {
		return conf.NewJoinToken{}, conf.Errorf(conf.CodeInternal, "this agent knows no CA")
	}
	t := transport.NewToken(transport.HashCA(id.CAs[0]))
	now := time.Now()
	s := t.Stored(role, req.Service, req.TTL, req.Uses, by, now)
	at := conf.FormatTime(now)
	res, err := ss.member.Propose(ctx, &command.Cluster{
		At: at, By: by,
		Tokens: []command.JoinToken{{ID: s.ID, SecretHash: s.SecretHash, Role: req.Role, Service: req.Service, ExpiresAt: s.Expires, CreatedBy: by, Uses: req.Uses}},
		Audit:  []conf.Access{{UserID: by, Action: "write", Success: true, Reason: "join token " + s.ID + " created for a " + req.Role, Timestamp: at}},
	})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return conf.NewJoinToken{}, err
	}
	cmd := fmt.Sprintf("holdfast agent --join %s --token %s", c.port.Addr(), t)
	if req.Service != "" {
		cmd += " --service " + req.Service
	}
	return conf.NewJoinToken{ID: s.ID, Token: t.String(), Command: cmd, ExpiresAt: s.Expires}, nil
}
