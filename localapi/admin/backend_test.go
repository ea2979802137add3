package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	readToken    = "readonly-token"
	writeToken   = "admin-token"
	rebuildToken = "rebuild-token"
	joinToken    = "HF10123::t1:secret"
	apiToken     = "hfa_0123_secret"
	lapsedToken  = "lapsed-token"
	epoch        = "550e8400-e29b-41d4-a716-446655440000"
	checksum     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// backend is all backends at once: it notes what it is asked and answers what
// the test has put in.
type backend struct {
	mu      sync.Mutex
	calls   []string // names of methods, but those of Auth, Audit and Health
	audit   []conf.Access
	draft   conf.Draft
	who     conf.Principal
	profile conf.Profile
	of      []string
	reason  string
	id      string
	search  conf.SearchRequest
	history conf.HistoryFilter
	access  conf.AccessFilter
	limit   int
	ctx     context.Context
	token   conf.JoinTokenRequest
	api     conf.APITokenRequest
	faded   atomic.Bool
	change  []string // what Change was asked for
	status  conf.ClusterStatus

	rollout   conf.RolloutDraft
	move      conf.RolloutMove
	byDefault *conf.RolloutPlan

	records map[string]*conf.Record
	outcome conf.Outcome
	err     error // of every call that may fail
	panics  bool
}

func newBackend() *backend {
	return &backend{
		records: map[string]*conf.Record{"stt-worker": {
			Service: "stt-worker", Version: 5, Epoch: epoch, Checksum: checksum,
			Values: json.RawMessage(`{"vad_threshold":0.6}`), Config: json.RawMessage(`{"vad_threshold":0.6,"whisper_model":"base.en"}`),
			IssuedAt: "2026-01-02T03:04:05+00:00", UpdatedAt: "2026-01-02T03:04:05+00:00", UpdatedBy: "admin", Signature: "c2ln", KeyID: "k1",
		}},
		outcome: conf.Outcome{Service: "stt-worker", Version: 6, Changed: true, Config: json.RawMessage(`{"vad_threshold":0.7}`)},
	}
}

func (b *backend) call(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, name)
	b.ctx = ctx
	if b.panics {
		panic("secret of the backend")
	}
	return b.err
}

func (b *backend) Authenticate(token string) (conf.Principal, bool) {
	switch token {
	case readToken:
		return conf.Principal{Name: "reader", Role: conf.RoleRead}, true
	case writeToken:
		return conf.Principal{Name: "admin", Role: conf.RoleWrite}, true
	case lapsedToken:
		return conf.Principal{Name: "gone"}, false
	case "fading":
		return conf.Principal{Name: "fading", Role: conf.RoleRead}, !b.faded.Load()
	}
	return conf.Principal{}, false
}

func (b *backend) Record(row conf.Access) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.audit = append(b.audit, row)
}

func (b *backend) Health() conf.Health {
	return conf.Health{
		OK: true, DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeNormal, ConfigEpoch: epoch,
		SchemaVersion: 1, LKGCacheValid: true, LitestreamStatus: "disabled",
	}
}

// reader gives Record its second meaning.
type reader struct{ *backend }

func (r reader) ListServices(ctx context.Context) ([]conf.ServiceInfo, error) {
	return nil, r.call(ctx, "Services")
}

func (r reader) CurrentRecord(ctx context.Context, service string) (*conf.Record, error) {
	if err := r.call(ctx, "Record"); err != nil {
		return nil, err
	}
	rec, ok := r.records[service]
	if !ok {
		return nil, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services")
	}
	return rec, nil
}

func (b *backend) Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error) {
	b.search = req
	return conf.SearchResponse{}, b.call(ctx, "Search")
}

func (b *backend) History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	b.history = f
	return conf.HistoryPage{}, b.call(ctx, "History")
}

func (b *backend) AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	b.access = f
	return conf.AccessPage{}, b.call(ctx, "AccessLog")
}

func (b *backend) Versions(ctx context.Context, _ string, limit int) ([]conf.Metadata, error) {
	b.limit = limit
	return []conf.Metadata{{Version: 4, UpdatedBy: "four"}, {Version: 3, UpdatedBy: "three"}}, b.call(ctx, "Versions")
}

func (b *backend) VersionValues(ctx context.Context, _ string, _ uint64) (json.RawMessage, error) {
	return json.RawMessage(`{"vad_threshold":0.3}`), b.call(ctx, "VersionValues")
}

func (b *backend) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	return nil, b.call(ctx, "Schemas")
}

func (b *backend) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	return conf.SchemaInfo{Service: service, Hash: checksum, Schema: json.RawMessage(`{"type":"object"}`)}, b.call(ctx, "Schema")
}

func (b *backend) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return nil, b.call(ctx, "Profiles")
}

func (b *backend) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return conf.Profile{Name: name}, b.call(ctx, "Profile")
}

func (b *backend) Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error) {
	b.who, b.draft = who, d
	if d.Op == conf.OpSchema {
		b.reason, b.id = d.Reason, d.RequestID
	}
	return b.outcome, b.call(ctx, "Do")
}

func (b *backend) SaveProfile(ctx context.Context, who conf.Principal, p conf.Profile, of []string, reason, id string) (conf.Profile, error) {
	b.who, b.profile, b.of, b.reason, b.id = who, p, of, reason, id
	return p, b.call(ctx, "SaveProfile")
}

func (b *backend) ImportProfile(ctx context.Context, who conf.Principal, p conf.Profile, reason, id string) (conf.Profile, []conf.StaleProfile, error) {
	b.who, b.profile, b.reason, b.id = who, p, reason, id
	return p, []conf.StaleProfile{{Profile: p.Name, Service: "router", Error: "stale"}}, b.call(ctx, "ImportProfile")
}

func (b *backend) ActivateProfile(ctx context.Context, who conf.Principal, _, reason, id, _ string) ([]conf.Outcome, error) {
	b.who, b.reason, b.id = who, reason, id
	return []conf.Outcome{b.outcome}, b.call(ctx, "ActivateProfile")
}

func (b *backend) DeleteProfile(ctx context.Context, who conf.Principal, _, reason, id string) error {
	b.who, b.reason, b.id = who, reason, id
	return b.call(ctx, "DeleteProfile")
}

func (b *backend) Rebuild(ctx context.Context, token string) error {
	if token != rebuildToken {
		return conf.Errorf(conf.CodeDenied, "wrong rebuild token")
	}
	return b.call(ctx, "Rebuild")
}

func (b *backend) Status(ctx context.Context) (conf.ClusterStatus, error) {
	return b.status, b.call(ctx, "Status")
}

func (b *backend) Keys(ctx context.Context) (conf.KeysStatus, error) {
	return conf.KeysStatus{Keys: []conf.KeyInfo{}, Rotations: []conf.KeyRotation{}, Members: []conf.MemberKeys{}}, b.call(ctx, "Keys")
}

func (b *backend) KeyChange(ctx context.Context, who conf.Principal, change, kind, reason string) (conf.KeyRotation, error) {
	b.who = who
	return conf.KeyRotation{Kind: kind, KeyID: change + " " + reason, Waiting: []string{}}, b.call(ctx, "KeyChange")
}

func (b *backend) Tokens(ctx context.Context) ([]conf.JoinTokenInfo, error) {
	return nil, b.call(ctx, "Tokens")
}

func (b *backend) CreateToken(ctx context.Context, who conf.Principal, req conf.JoinTokenRequest) (conf.NewJoinToken, error) {
	b.who, b.token = who, req
	return conf.NewJoinToken{
		ID: "t1", Token: joinToken, Command: "holdfast agent --join 10.0.0.1:2771 --token " + joinToken, ExpiresAt: "2026-01-02T04:04:05+00:00",
	}, b.call(ctx, "CreateToken")
}

func (b *backend) RevokeToken(ctx context.Context, who conf.Principal, id string) error {
	b.who, b.id = who, id
	return b.call(ctx, "RevokeToken")
}

func (b *backend) APITokens(ctx context.Context) ([]conf.APITokenInfo, error) {
	return nil, b.call(ctx, "APITokens")
}

func (b *backend) CreateAPIToken(ctx context.Context, who conf.Principal, req conf.APITokenRequest) (conf.NewAPIToken, error) {
	b.who, b.api = who, req
	return conf.NewAPIToken{ID: "api-1", Name: req.Name, Role: req.Role, Token: apiToken, ExpiresAt: "2026-01-02T04:04:05+00:00"}, b.call(ctx, "CreateAPIToken")
}

func (b *backend) RevokeAPIToken(ctx context.Context, who conf.Principal, id string) error {
	b.who, b.id = who, id
	return b.call(ctx, "RevokeAPIToken")
}

func (b *backend) Secrets(ctx context.Context, service string) ([]conf.SecretInfo, error) {
	return []conf.SecretInfo{{Key: "db.password", Source: conf.SourceDatabase, Set: true, KeyID: "m1"}}, b.call(ctx, "Secrets")
}

func (b *backend) Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error) {
	b.who, b.id = who, service+" "+key+" "+reason
	return json.RawMessage(`"hunter2"`), b.call(ctx, "Reveal")
}

func (b *backend) Explain(ctx context.Context, service string, open bool) (conf.Explanation, error) {
	if open {
		return conf.Explanation{}, conf.Errorf(conf.CodeInternal, "the admin API shows no values of secrets here")
	}
	return conf.Explanation{Service: service, Fields: []conf.Explained{{Key: "a"}}}, b.call(ctx, "Explain")
}

func (b *backend) Change(ctx context.Context, who conf.Principal, change, node string) error {
	b.who, b.change = who, []string{change, node}
	return b.call(ctx, "Change")
}

func (b *backend) BackupStatus(ctx context.Context) (conf.BackupStatus, error) {
	return conf.BackupStatus{Status: conf.BackupHealthy, NodeID: "n1"}, b.call(ctx, "BackupStatus")
}

func (b *backend) Instances(ctx context.Context, service string, keys bool) (conf.Instances, error) {
	return conf.Instances{Service: service}, b.call(ctx, "Instances "+service)
}

func (b *backend) TakeReports(ctx context.Context, in conf.ReportBatch) (conf.ReportReply, error) {
	return conf.ReportReply{Success: true}, b.call(ctx, "TakeReports")
}

func (b *backend) Backups(ctx context.Context) ([]conf.Backup, error) {
	return nil, b.call(ctx, "Backups")
}

func (b *backend) DrillBackup(ctx context.Context) (conf.Drill, error) {
	return conf.Drill{At: "2026-01-02T04:04:05+00:00", Index: 7}, b.call(ctx, "DrillBackup")
}

func (b *backend) options() admin.Options {
	hub := events.NewHub(func() events.Follower { return quiet{} })
	hub.Stop() // each stream ends at once
	return admin.Options{
		Events: hub,
		Auth:   b, Audit: b, Health: b, Reader: reader{b}, Queries: b, Versions: b, Schemas: b, Profiles: b,
		Editor: b, ProfileEditor: b, Rebuilder: b, Cluster: b, Keys: b, APITokens: b, Secrets: b, Backups: b, Rollouts: rollouts{b}, Instances: b, FailBurst: 1 << 20,
	}
}

// harness is a handler over a backend, and the log that it writes.
type harness struct {
	*backend
	t   testing.TB
	h   *admin.Handler
	log *bytes.Buffer
}

func newHarness(t testing.TB, change ...func(*admin.Options)) *harness {
	t.Helper()
	s := &harness{backend: newBackend(), t: t, log: &bytes.Buffer{}}
	o := s.options()
	o.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	for _, f := range change {
		f(&o)
	}
	h, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.h = h
	return s
}

// answer is a response with its body decoded.
type answer struct {
	*httptest.ResponseRecorder
	body map[string]any
}

// do sends one request. Headers are given as "Name: value".
func (s *harness) do(method, target, token, body string, headers ...string) answer {
	s.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, in)
	if token != "" {
		r.Header.Set("X-API-Token", token)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	out := answer{ResponseRecorder: w}
	if w.Body.Len() > 0 && w.Header().Get("Content-Type") != "text/event-stream" {
		dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
		dec.UseNumber()
		if err := dec.Decode(&out.body); err != nil {
			s.t.Fatalf("%s %s: body is not a JSON object: %v\n%s", method, target, err, w.Body)
		}
	}
	return out
}

// refused checks an error answer: status and code, that it helps, and that no
// backend was asked.
func (s *harness) refused(a answer, status int, code conf.Code) {
	s.t.Helper()
	if a.Code != status || a.body["code"] != string(code) || a.body["success"] != false {
		s.t.Errorf("got %d %s, want %d with code %q", a.Code, a.Body, status, code)
	}
	if a.body["error"] == "" || a.body["error"] == nil || a.body["hint"] == nil {
		s.t.Errorf("error without message or hint: %s", a.Body)
	}
	if len(s.calls) > 0 {
		s.t.Errorf("backend was called: %v", s.calls)
	}
}

func (s *harness) wantCalls(names ...string) {
	s.t.Helper()
	if !slices.Equal(s.calls, names) {
		s.t.Errorf("backend calls: %v, want %v", s.calls, names)
	}
}

var errBackend = errors.New("disk I/O error at /var/lib/holdfast, token " + writeToken)

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodOptions, http.MethodTrace, "BREW",
}

func newRequest(method, target, body string) *http.Request {
	return httptest.NewRequest(method, target, strings.NewReader(body))
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }
