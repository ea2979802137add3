package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	ctx := t.Context()
	st, err := c.Cluster(ctx)
	check(t, err)
	if st.Leader != "n1" || !st.Quorum || len(st.Nodes) != 1 || st.Nodes[0].Services["router"] != 4 {
		t.Errorf("status: %+v", st)
	}
	list, err := c.JoinTokens(ctx)
	check(t, err)
	if len(list) != 1 || list[0].ID != "t1" {
		t.Errorf("tokens: %+v", list)
	}
	for _, f := range []struct {
		do   func() error
		want string
	}{
		{func() error { return c.Promote(ctx, "n2") }, "promote n2"},
		{func() error { return c.Demote(ctx, "n2") }, "demote n2"},
		{func() error { return c.Remove(ctx, "n2") }, "remove n2"},
		{func() error { return c.Transfer(ctx, "n2") }, "transfer n2"},
		{func() error { return c.Transfer(ctx, "") }, "transfer "},
		{func() error { return c.Leave(ctx) }, "leave "},
		{func() error { return c.RevokeJoinToken(ctx, "t1") }, "revoke t1"},
	} {
		check(t, f.do())
		if b.change != f.want {
			t.Errorf("the agent was asked to %q, want %q", b.change, f.want)
		}
	}
	b.err = conf.Errorf(conf.CodeNoQuorum, "no leader")
	if err := c.Remove(ctx, "n2"); !errors.Is(err, conf.ErrNoQuorum) {
		t.Errorf("no leader: %v", err)
	}
}

func TestCreateJoinToken(t *testing.T) {
	t.Parallel()
	b, c := newAgent(t)
	for in, want := range map[conf.JoinTokenRequest]conf.JoinTokenRequest{
		{Role: "server", Uses: 1}: {Role: "server", Uses: 1, TTL: time.Hour},
		{Role: "sidecar", Service: "stt-worker", TTL: 36*time.Hour + time.Second}: {Role: "sidecar", Service: "stt-worker", TTL: 36*time.Hour + time.Second},
	} {
		got, err := c.CreateJoinToken(t.Context(), in)
		check(t, err)
		if b.token != want {
			t.Errorf("%+v arrived as %+v", in, b.token)
		}
		token := conf.NewJoinToken{ID: "t1", Token: "HF1", Command: "holdfast agent", ExpiresAt: "2026-01-02T03:04:05+00:00"}
		if diff := cmp.Diff(token, got); diff != "" {
			t.Error(diff)
		}
	}
}

// Each read of the client that was asked for is settled first, and works; the
// other calls go on as they were.
func TestConsistent(t *testing.T) {
	t.Parallel()
	b, plain := newAgent(t)
	for name, f := range map[string]struct {
		do      func(context.Context, *client.Client) error
		settles int
	}{
		"services": {func(ctx context.Context, c *client.Client) error { _, err := c.Services(ctx); return err }, 1},
		"service":  {func(ctx context.Context, c *client.Client) error { _, err := c.Service(ctx, "a"); return err }, 1},
		"stored":   {func(ctx context.Context, c *client.Client) error { _, err := c.Stored(ctx, "a", 0); return err }, 1},
		"versions": {func(ctx context.Context, c *client.Client) error { _, err := c.Versions(ctx, "a", 1); return err }, 1},
		"search": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Search(ctx, conf.SearchRequest{})
			return err
		}, 1},
		"history": {func(ctx context.Context, c *client.Client) error {
			_, err := c.History(ctx, conf.HistoryFilter{})
			return err
		}, 1},
		"schemas":  {func(ctx context.Context, c *client.Client) error { _, err := c.Schemas(ctx); return err }, 1},
		"schema":   {func(ctx context.Context, c *client.Client) error { _, err := c.Schema(ctx, "a"); return err }, 1},
		"profiles": {func(ctx context.Context, c *client.Client) error { _, err := c.Profiles(ctx); return err }, 1},
		"profile":  {func(ctx context.Context, c *client.Client) error { _, err := c.Profile(ctx, "a"); return err }, 1},
		"tokens":   {func(ctx context.Context, c *client.Client) error { _, err := c.JoinTokens(ctx); return err }, 1},
		"access": {func(ctx context.Context, c *client.Client) error {
			_, err := c.AccessLog(ctx, conf.AccessFilter{})
			return err
		}, 0},
		"me":      {func(ctx context.Context, c *client.Client) error { _, err := c.Me(ctx); return err }, 0},
		"health":  {func(ctx context.Context, c *client.Client) error { _, err := c.Health(ctx); return err }, 0},
		"cluster": {func(ctx context.Context, c *client.Client) error { _, err := c.Cluster(ctx); return err }, 0},
		"change": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Do(ctx, conf.Draft{Service: "a", Op: conf.OpDelete})
			return err
		}, 0},
	} {
		b.settled = 0
		if err := f.do(t.Context(), plain); err != nil || b.settled != 0 {
			t.Errorf("%s: settled %d times unasked: %v", name, b.settled, err)
		}
		if err := f.do(t.Context(), plain.Consistent()); err != nil || b.settled != f.settles {
			t.Errorf("%s: settled %d times, want %d: %v", name, b.settled, f.settles, err)
		}
	}
}
