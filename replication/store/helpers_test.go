package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

const (
	testEpoch = "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01"
	signature = "c2lnbmF0dXJl"
)

// testProject flattens a document as the real one does; a schema here is
// {"key": {"c": complexity, "d": description, "h": help, "t": type, "s": secret}}.
func testProject(service string, schema, config json.RawMessage) ([]conf.Item, error) {
	type meta struct {
		C, D, H, T string
		S          bool
	}
	fields := map[string]meta{}
	if schema != nil {
		if err := json.Unmarshal(schema, &fields); err != nil {
			return nil, err
		}
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, err
	}
	var items []conf.Item
	var walk func(prefix string, doc map[string]json.RawMessage) error
	walk = func(prefix string, doc map[string]json.RawMessage) error {
		for k, v := range doc {
			key := prefix + k
			f, known := fields[key]
			if f.T == "bad" {
				return fmt.Errorf("%s cannot be projected", key)
			}
			var sub map[string]json.RawMessage
			if !known && schema != nil && json.Unmarshal(v, &sub) == nil && sub != nil {
				if err := walk(key+".", sub); err != nil {
					return err
				}
				continue
			}
			typ := conf.TypeString
			switch v[0] {
			case 't', 'f':
				typ = conf.TypeBoolean
			case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
				typ = conf.TypeInteger
			}
			if f.T != "" {
				typ = conf.Type(f.T)
			}
			c := conf.Simple
			if f.C != "" {
				c = conf.Complexity(f.C)
			}
			items = append(items, conf.Item{
				Service: service, Key: key, ValueJSON: string(v), Type: typ, Complexity: c, Description: f.D, HelpText: f.H, IsSecret: f.S,
			})
		}
		return nil
	}
	if err := walk("", doc); err != nil {
		return nil, err
	}
	return items, nil
}

func testModelHash(schemas iter.Seq2[string, []byte]) string {
	h := sha256.New()
	for k, schema := range schemas {
		fmt.Fprintf(h, "%s=%s;", k, schema)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func testOptions(path string) Options {
	return Options{Path: path, Project: testProject, ModelHash: testModelHash, Logger: slog.New(slog.DiscardHandler), BusyTimeout: 200 * time.Millisecond}
}

func openAt(tb testing.TB, path string) *Store {
	tb.Helper()
	s, err := Open(context.Background(), testOptions(path))
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func openNew(tb testing.TB) *Store {
	tb.Helper()
	return openAt(tb, filepath.Join(tb.TempDir(), "data", "config.db"))
}

// driver feeds a store as a log would.
type driver struct {
	tb    testing.TB
	s     *Store
	index uint64
	clock time.Time
}

func newDriver(tb testing.TB, s *Store) *driver {
	index, _ := s.Applied()
	d := &driver{tb: tb, s: s, index: index, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(index) * time.Second)}
	if s.Epoch() == "" {
		d.ok(&command.Genesis{Epoch: testEpoch, At: d.now(), NodeID: "node-1", Reason: "test"})
	}
	return d
}

func (d *driver) now() string {
	d.clock = d.clock.Add(time.Millisecond)
	return conf.FormatTime(d.clock)
}

func (d *driver) entries(cmds ...command.Command) []apply.Entry {
	d.tb.Helper()
	out := make([]apply.Entry, len(cmds))
	for i, c := range cmds {
		d.index++
		data, err := command.Encode(c)
		if err != nil {
			d.tb.Fatal(err)
		}
		back, err := command.Decode(data)
		if err != nil {
			d.tb.Fatal(err)
		}
		out[i] = apply.Entry{Index: d.index, Term: 1, Command: back}
	}
	return out
}

func (d *driver) apply(cmds ...command.Command) ([]command.Result, []*conf.Record) {
	d.tb.Helper()
	res, recs, err := d.s.Apply(context.Background(), d.entries(cmds...))
	if err != nil {
		d.tb.Fatalf("apply: %v", err)
	}
	return res, recs
}

// ok applies one command that must not be rejected.
func (d *driver) ok(c command.Command) (command.Result, []*conf.Record) {
	d.tb.Helper()
	res, recs := d.apply(c)
	if res[0].Err != nil {
		d.tb.Fatalf("rejected: %v", res[0].Err)
	}
	return res[0], recs
}

func (d *driver) edit(action string, ups ...command.Update) *command.Edit {
	return &command.Edit{Epoch: d.s.Epoch(), At: d.now(), By: "ann", Reason: "because", Action: action, Updates: ups}
}

// put makes an update whose effective document is doc.
func put(service string, prev uint64, doc string) command.Update {
	sha := sha256.Sum256([]byte(doc))
	return command.Update{
		Service: service, Prev: prev, Version: prev + 1, Values: json.RawMessage(doc), Config: json.RawMessage(doc),
		Checksum: hex.EncodeToString(sha[:]), IssuedAt: "2026-01-02T03:04:05+00:00", Signature: signature, KeyID: "0011223344556677",
	}
}

func tombstone(service string, prev uint64) command.Update {
	u := put(service, prev, "{}")
	u.Deleted = true
	return u
}

func schemaOf(service, text string) command.Schema {
	return command.Schema{Service: service, Schema: json.RawMessage(text)}
}

func records(tb testing.TB, s *Store) map[string]*conf.Record {
	tb.Helper()
	out := map[string]*conf.Record{}
	err := s.Queries.Records(context.Background(), func(r *conf.Record) error {
		out[r.Service] = r
		return nil
	})
	if err != nil {
		tb.Fatalf("records: %v", err)
	}
	return out
}

func items(tb testing.TB, s *Store) []conf.Item {
	tb.Helper()
	var out []conf.Item
	for {
		page, err := s.Search(context.Background(), conf.SearchRequest{Limit: 1000, Offset: len(out)})
		if err != nil {
			tb.Fatalf("search: %v", err)
		}
		if out = append(out, page.Results...); len(out) >= page.Total {
			return out
		}
	}
}

func history(tb testing.TB, s *Store, f conf.HistoryFilter) []conf.HistoryEntry {
	tb.Helper()
	page, err := s.Queries.History(context.Background(), f)
	if err != nil {
		tb.Fatalf("history: %v", err)
	}
	return page.Results
}

// content is all that a store answers, without row ids.
func content(tb testing.TB, s *Store) map[string]any {
	tb.Helper()
	ctx := context.Background()
	its := items(tb, s)
	for i := range its {
		its[i].ID = nil
	}
	acc, err := s.Queries.AccessLog(ctx, conf.AccessFilter{Limit: 1000})
	if err != nil {
		tb.Fatal(err)
	}
	prof, err := s.Queries.Profiles(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	sch, err := s.Queries.Schemas(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	members, err := s.Queries.Members(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	tokens, err := s.Queries.JoinTokens(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	rollouts, err := s.Queries.Rollouts(ctx, "", 1000, 0)
	if err != nil {
		tb.Fatal(err)
	}
	index, term := s.Applied()
	v, h := s.SchemaVersion()
	epoch, created := s.Genesis()
	return map[string]any{
		"records": records(tb, s), "items": its, "history": history(tb, s, conf.HistoryFilter{Limit: 1000}), "access": acc, "profiles": prof,
		"schemas": sch, "digest": s.Digest(), "applied": []uint64{index, term}, "version": []any{v, h, epoch, created},
		"rollouts": rollouts, "members": members, "tokens": tokens, "items digest": s.state.Load().Items.String(),
	}
}

func same(tb testing.TB, what string, want, got any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// story is a random but repeatable sequence of commands that touches everything.
func story(d *driver, n int) []command.Command {
	rng, secrets := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	versions := map[string]uint64{}
	deleted := map[string]bool{}
	cmds := make([]command.Command, 0, n)
	for i := range n {
		svc := fmt.Sprintf("service-%d", rng.IntN(6))
		doc := fmt.Sprintf(`{"a":%d,"name":"value <%d> & \"more\"","nested":{"x":%d,"y":[1,2,"%s"]},"on":%t}`,
			rng.IntN(5), rng.IntN(9), rng.IntN(3), strings.Repeat("é", rng.IntN(4)), rng.IntN(2) == 0)
		switch k := rng.IntN(14); {
		case k >= 12:
			cmds = append(cmds, clusterStory(rng, d.now()))
		case k == 0 && secrets.IntN(2) == 0:
			cmds = append(cmds, resealStory(secrets, d.now()))
		case k == 0:
			cmds = append(cmds, &command.Audit{Rows: []conf.Access{{UserID: "bob", Action: "read", Service: svc, Success: i%2 == 0, Timestamp: d.now()}, {Action: "unauthorized", Timestamp: d.now()}}})
		case k == 1:
			e := d.edit(command.ActionSchema)
			e.Schemas = []command.Schema{schemaOf(svc, fmt.Sprintf(`{"a":{"c":"advanced","d":"The number %d","h":"help"},"nested":{"t":"string"}}`, rng.IntN(3)))}
			cmds = append(cmds, e)
		case k == 2:
			e := d.edit(command.ActionProfileSave)
			e.Profiles = []command.Profile{{Name: fmt.Sprintf("p%d", rng.IntN(3)), Description: "d", Services: map[string]json.RawMessage{svc: json.RawMessage(doc)}}}
			cmds = append(cmds, e)
		case k == 3:
			e := d.edit(command.ActionProfileDelete)
			e.ProfileDeletes = []string{fmt.Sprintf("p%d", rng.IntN(3))}
			cmds = append(cmds, e)
		case k == 4:
			e := d.edit(command.ActionPut, put(svc, versions[svc]+7, doc)) // a conflict
			e.Schemas = []command.Schema{schemaOf("other-"+svc, `{}`)}
			cmds = append(cmds, e)
		case k == 11 && rng.IntN(2) == 0: // some of it for what is not there any more
			r := &command.Reissue{Epoch: testEpoch, At: d.now(), KeyID: "8899aabbccddeeff"}
			for j := range 1 + rng.IntN(7) {
				name := fmt.Sprintf("service-%d", j)
				r.Items = append(r.Items, command.ReissueItem{Service: name, Version: max(versions[name], uint64(rng.IntN(2))) - uint64(rng.IntN(2)), Signature: fmt.Sprintf("c2ln%d", i)})
			}
			cmds = append(cmds, r)
		case k == 5 && versions[svc] > 0 && !deleted[svc]:
			cmds = append(cmds, d.edit(command.ActionDelete, tombstone(svc, versions[svc])))
			versions[svc]++
			deleted[svc] = true
		default:
			e := d.edit(command.ActionPut, put(svc, versions[svc], doc))
			e.ID = fmt.Sprintf("req-%d", i)
			secretStory(secrets, svc, e)
			e.Audit = []conf.Access{{UserID: "ann", Action: "write", Service: svc, Success: true, Timestamp: e.At}}
			cmds = append(cmds, e)
			versions[svc]++
			deleted[svc] = false
		}
	}
	return cmds
}

// clusterStory is one random change of the cluster; some of them are rejected.
func clusterStory(rng *rand.Rand, at string) *command.Cluster {
	token, node := fmt.Sprintf("k%d", rng.IntN(3)), fmt.Sprintf("node-%d", rng.IntN(4))
	c := &command.Cluster{At: at, By: "ann"}
	switch rng.IntN(8) {
	case 0:
		c.TokenRevokes = []string{token}
	case 1:
		c.MemberRemoves = []string{node}
	case 2:
		c.Members = []command.Member{{NodeID: node, Role: conf.MemberServer, Addr: fmt.Sprintf("10.0.0.%d:2771", rng.IntN(9)), Version: "v1"}}
		if key := rng.IntN(4); key > 0 {
			c.Members[0].KeyHash = hashOf(fmt.Sprint(node, key))
		}
	case 3, 4:
		c.Tokens = []command.JoinToken{{ID: token, SecretHash: hashOf(token), Role: conf.MemberServer, CreatedBy: "ann", Uses: 2}}
	default:
		c.Uses = []command.TokenUse{{TokenID: token, NodeID: node, KeyHash: hashOf(node)}}
		c.Audit = []conf.Access{{UserID: node, Action: "join", Success: true, Timestamp: at}}
	}
	return c
}

// sealedText looks like a sealed value.
func sealedText(n int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%032d", n))
}

// secretStory sets or removes a secret now and then.
func secretStory(rng *rand.Rand, svc string, e *command.Edit) {
	s := command.Secret{Service: svc, Key: fmt.Sprintf("secret_%d", rng.IntN(3))}
	switch rng.IntN(4) {
	case 0:
		s.Deleted = true
	case 1, 2:
		s.EncryptedValue, s.KeyID = sealedText(rng.IntN(3)), fmt.Sprintf("m%d", rng.IntN(2))
	default:
		return
	}
	e.Secrets = []command.Secret{s}
}

// resealStory reseals some secrets; some of its items are outdated.
func resealStory(rng *rand.Rand, at string) *command.Reseal {
	r := &command.Reseal{Epoch: testEpoch, At: at, By: "rotation"}
	for range 1 + rng.IntN(6) {
		r.Items = append(r.Items, command.ResealItem{
			Service: fmt.Sprintf("service-%d", rng.IntN(6)), Key: fmt.Sprintf("secret_%d", rng.IntN(3)),
			PrevDigest: command.SealedDigest(sealedText(rng.IntN(3))), EncryptedValue: sealedText(100 + rng.IntN(3)), KeyID: "m2",
		})
	}
	return r
}

func hashOf(s string) string {
	sha := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sha[:])
}
