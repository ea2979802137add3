package edit

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Proposer commits a command to the Raft log. It returns after this agent has
// applied the command, so Records contains its effect. It is safe for concurrent use.
type Proposer interface {
	Propose(ctx context.Context, c command.Command) (command.Result, error)
}

// Records reads the newest service records from memory. It is safe for concurrent use.
type Records interface {
	Record(service string) *conf.Record // nil when the service is unknown
	Services() []*conf.Record           // sorted by name; tombstones included
	Epoch() string
}

// Archive reads what only the store contains. It returns conf.CodeNotFound for
// what is missing.
type Archive interface {
	VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error)
	Profile(ctx context.Context, name string) (conf.Profile, error)
	Profiles(ctx context.Context) ([]conf.Profile, error)
	RequestResult(ctx context.Context, id string) (command.Result, bool, error)
	Rollouts(ctx context.Context, service string, limit, offset int) (conf.Page[conf.RolloutEnd], error)
}

// Sealer seals and opens the values of secrets. It is safe for concurrent use.
type Sealer interface {
	Seal(epoch, service, key string, plain []byte) (encrypted, keyID string, err error)
	Open(epoch, service string, s conf.SealedSecret) ([]byte, error)
}

// Options of an Editor. Now, Confirm and Sealer are optional.
type Options struct {
	Proposer Proposer
	Records  Records
	Archive  Archive
	Schemas  *schema.Cache
	Signer   func() *seal.Signer
	Sealer   Sealer       // nil where no secret is sealed or opened
	Ready    func() error // returns nil while this agent accepts writes, else why it does not
	Now      func() time.Time

	// CanSignVersions reports, from memory, that all voters can apply what has the signature
	// of a version; nil: they cannot.
	CanSignVersions func() bool

	// Confirm returns nil when Records contains every write that was acknowledged
	// before the call. A result that needs no log entry, such as a conflict, waits for
	// it: an agent that was stopped may not have noticed that another one leads.
	// It is nil where no other agent can lead.
	Confirm func(context.Context) error
}

// Editor turns drafts into committed edits. Its methods are safe for concurrent use.
type Editor struct {
	o     Options
	locks *locks
	floor issuedAtFloor

	versions atomic.Bool // versions are signed: what signsVersions found
}

// New makes an Editor.
func New(o Options) *Editor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Confirm == nil {
		o.Confirm = func(context.Context) error { return nil }
	}
	return &Editor{o: o, locks: newLocks()}
}

// Do executes one draft for one service. A dry run stops before the proposal and
// returns what would be the outcome.
//
// OpPut makes a version even when the values stay the same. OpPatch and OpRestore
// that change nothing make none. An OpPut with a schema stores both or neither, in one
// version: only the new values have to be valid, and only under the new schema.
func (e *Editor) Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error) {
	if err := e.authorize(who, d.Reason, d.DryRun); err != nil {
		return conf.Outcome{}, err
	}
	if err := conf.CheckService(d.Service); err != nil {
		return conf.Outcome{}, err
	}
	if d.Op == conf.OpSchema {
		outs, err := e.putSchemas(ctx, who, map[string][]byte{d.Service: d.Schema}, d, requestID(who, d.RequestID))
		if err != nil {
			return conf.Outcome{}, err
		}
		return outs[0], nil
	}
	doc := d.Decoded
	if doc == nil && (d.Op == conf.OpPut || d.Op == conf.OpPatch) {
		var err error
		if doc, err = conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
			return conf.Outcome{}, err
		}
	}
	if d.Op == conf.OpSecretSet {
		if err := checkSecretDraft(d); err != nil {
			return conf.Outcome{}, err
		}
	}
	ns, err := schemaOf(e.o.Schemas, d)
	if err != nil {
		return conf.Outcome{}, err
	}
	unlock, err := e.locks.lock(ctx, d.Service)
	if err != nil {
		return conf.Outcome{}, err
	}
	defer unlock()

	ids := requestIDs(who, d)
	for try := 1; ; try++ {
		out, err := e.attempt(ctx, who, d, doc, ns, ids)
		if code := conf.CodeOf(err); try == tries || code != conf.CodeConflict && (code != conf.CodeRolloutActive || d.Rollout != conf.RolloutReplace) {
			return out, err
		}
		if d.Expect != nil {
			// The same request may have been committed under an earlier id.
			if earlier, found, err := e.replay(ctx, ids[1:], d.Service); found && err == nil {
				return earlier, nil
			}
			return out, err
		}
		// An edit with an unknown outcome was committed in between. The caller expects
		// no version, so the change is computed again on top of it.
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Outcome{}, err
		}
	}
}

// tries limits the attempts of a change without an expected version.
const tries = 3

// attempt is one attempt of Do. The caller holds the service's lock.
func (e *Editor) attempt(ctx context.Context, who conf.Principal, d conf.Draft, doc map[string]any, ns *newSchema, ids []string) (conf.Outcome, error) {
	if d.RequestID != "" {
		if out, done, err := e.replay(ctx, ids, d.Service); done || err != nil {
			return out, err
		}
	}
	cur := e.o.Records.Record(d.Service)
	if expect(cur, d) != nil || active(cur, d.Rollout) != nil {
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Outcome{}, err
		}
		if d.RequestID != "" { // Confirm may have applied this request
			if out, done, err := e.replay(ctx, ids, d.Service); done || err != nil {
				return out, err
			}
		}
		cur = e.o.Records.Record(d.Service)
		if err := cmp.Or(expect(cur, d), active(cur, d.Rollout)); err != nil {
			return conf.Outcome{}, err
		}
	}
	if cur == nil { // its schema comes with the draft
		cur = &conf.Record{Service: d.Service}
	}
	now := e.o.Now()
	u, secrets, err := e.change(ctx, cur, d, doc, ns, now)
	if err != nil {
		return conf.Outcome{}, err
	}
	out := conf.Outcome{Service: d.Service, Version: u.Version, Changed: true, Config: u.Config}
	if ns.replaces(cur) {
		profiles, err := e.o.Archive.Profiles(ctx)
		if err != nil {
			return conf.Outcome{}, err
		}
		out.Stale = staleProfiles(profiles, d.Service, ns.compiled)
	}
	if len(secrets) == 0 && (d.Op == conf.OpPatch || d.Op == conf.OpRestore) && unchanged(cur, u) && running(cur) == nil {
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Outcome{}, err
		}
		if err := expect(e.o.Records.Record(d.Service), conf.Draft{Service: d.Service, Expect: &cur.Version}); err != nil {
			return conf.Outcome{}, err
		}
		out.Version, out.Changed = cur.Version, false
		return out, nil
	}
	if d.DryRun {
		return out, nil
	}
	ed := newEdit(e, who, ids[0], string(d.Op), d.Reason, now)
	ed.Updates, ed.Replace = []command.Update{u}, running(cur) != nil
	if ns.replaces(cur) {
		ed.Schemas = []command.Schema{{Service: d.Service, Schema: ns.raw}}
	}
	if ed.Secrets, err = e.seal(ed.Epoch, d.Service, secrets); err != nil {
		return conf.Outcome{}, err
	}
	return out, e.commit(ctx, ed, d.Key, d.Rollout)
}

// unchanged reports whether u has the values and the document of cur.
func unchanged(cur *conf.Record, u command.Update) bool {
	return cur.Exists() && string(u.Values) == string(cur.Values) && string(u.Config) == string(cur.Config)
}

// change computes the update that d requests, and the secrets that it sets. The
// caller holds the service's lock.
func (e *Editor) change(ctx context.Context, cur *conf.Record, d conf.Draft, doc map[string]any, ns *newSchema, now time.Time) (u command.Update, secrets []newSecret, err error) {
	if d.Op == conf.OpDelete {
		return e.sign(cur, []byte("{}"), []byte("{}"), true, now), nil, nil
	}
	if ns != nil {
		return e.underNewSchema(cur, ns.compiled, doc, now)
	}
	s, err := storedSchema(e, cur, cur.Schema)
	if err != nil {
		return u, nil, err
	}
	var values map[string]any
	switch d.Op {
	case conf.OpPut:
		values, secrets, err = splitSecrets(s, cur.Service, doc)
	case conf.OpPatch:
		var patch map[string]any
		if patch, secrets, err = splitSecrets(s, cur.Service, doc); err == nil {
			values, err = storedValues(cur)
		}
		if err == nil {
			values = mergePatch(values, patch)
		}
	case conf.OpSecretSet, conf.OpSecretDelete:
		if secrets, err = secretOf(s, cur.Service, d); err == nil {
			values, err = storedValues(cur)
		}
	case conf.OpRestore:
		values, err = earlierValues(ctx, e, s, d)
	default:
		err = conf.Errorf(conf.CodeUsage, "unknown operation %q", d.Op)
	}
	if err != nil {
		return u, nil, err
	}
	u, err = e.prepare(cur, s, values, now)
	return u, secrets, err
}

// earlierValues returns the values of the version that d restores, without what is
// a secret under schema s.
func earlierValues(ctx context.Context, e *Editor, s *schema.Schema, d conf.Draft) (map[string]any, error) {
	raw, err := e.o.Archive.VersionValues(ctx, d.Service, d.Restore)
	if err != nil {
		return nil, err
	}
	values, err := conf.ParseObject(raw, conf.MaxDocument)
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "stored values of version %d: %w", d.Restore, err)
	}
	values, _ = s.SplitSecrets(values)
	return values, nil
}

// storedSchema compiles raw, a schema of the service of cur.
func storedSchema(e *Editor, cur *conf.Record, raw json.RawMessage) (*schema.Schema, error) {
	s, err := e.o.Schemas.Get(cur.Service, raw)
	if err != nil {
		return nil, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	return s, nil
}

// prepare validates values against s and makes the signed update.
func (e *Editor) prepare(cur *conf.Record, s *schema.Schema, values map[string]any, now time.Time) (command.Update, error) {
	if err := rejectSecrets(s, cur.Service, values); err != nil {
		return command.Update{}, err
	}
	effective, bad := s.Effective(values)
	if len(bad) > 0 {
		return command.Update{}, invalid(cur.Service, bad)
	}
	v, err := seal.Canonical(values)
	if err != nil {
		return command.Update{}, err
	}
	c, err := seal.Canonical(effective)
	if err != nil {
		return command.Update{}, err
	}
	if len(c) > conf.MaxDocument {
		return command.Update{}, conf.Errorf(conf.CodeTooLarge, "the effective document of %s would have %d bytes, over the limit of %d", cur.Service, len(c), conf.MaxDocument)
	}
	return e.sign(cur, v, c, false, now), nil
}

// newEdit returns a command that has its author, time and reason, but no changes.
func newEdit(e *Editor, who conf.Principal, id, action, reason string, now time.Time) *command.Edit {
	return &command.Edit{
		ID: id, Epoch: e.o.Records.Epoch(), At: conf.FormatTime(now), By: who.Name, Reason: reason, Action: action,
	}
}

// commit proposes ed with its rows for the access log: one for each service. key is
// that of a secret, else empty; rollout is what the request says of rollouts, if anything.
func (e *Editor) commit(ctx context.Context, ed *command.Edit, key, rollout string) error {
	row := conf.Access{UserID: ed.By, Action: "write", Key: key, Success: true, Reason: ed.Action, Timestamp: ed.At}
	if ed.Action == command.ActionPut && len(ed.Schemas) > 0 {
		row.Reason += " with its schema"
	}
	if rollout != "" { // it went past what protects others
		row.Reason += " with rollout=" + rollout
	}
	if ed.Reason != "" {
		row.Reason += ": " + ed.Reason
	}
	var services []string
	for _, s := range ed.Schemas {
		services = append(services, s.Service)
	}
	if len(ed.Schemas) == 0 {
		for _, u := range ed.Updates {
			services = append(services, u.Service)
		}
	}
	if services == nil {
		services = []string{""} // an edit of a profile
	}
	for _, row.Service = range services {
		ed.Audit = append(ed.Audit, row)
	}
	return propose(ctx, e, ed)
}

// propose commits c. The error is that of the proposal, or of its application.
func propose(ctx context.Context, e *Editor, c command.Command) error {
	res, err := e.o.Proposer.Propose(ctx, c)
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}

// authorize checks the preconditions of every kind of edit. A dry run changes
// nothing: it needs the role of a reader only, and no replica.
func (e *Editor) authorize(who conf.Principal, reason string, dryRun bool) error {
	need := conf.RoleWrite
	if dryRun {
		need = conf.RoleRead
	}
	if !who.Role.Allows(need) {
		return conf.Errorf(conf.CodeDenied, "%s has the role %q, which may not write", who.Name, who.Role).
			WithHint("use a token with the role %s", need)
	}
	if len(reason) > conf.MaxReason {
		return conf.Errorf(conf.CodeInvalid, "the reason has %d bytes, over the limit of %d", len(reason), conf.MaxReason)
	}
	if dryRun {
		return nil
	}
	return e.o.Ready()
}

// replay returns the outcome of a request that was committed before. A client that
// missed the response repeats its request with the same Idempotency-Key.
func (e *Editor) replay(ctx context.Context, ids []string, service string) (out conf.Outcome, found bool, err error) {
	var res command.Result
	var ok bool
	for _, id := range ids {
		if res, ok, err = e.o.Archive.RequestResult(ctx, id); err != nil {
			return conf.Outcome{}, false, err
		}
		if ok {
			break
		}
	}
	if !ok {
		return conf.Outcome{}, false, nil
	}
	if res.Err != nil {
		return conf.Outcome{}, true, res.Err
	}
	v, ok := res.Versions[service]
	if !ok {
		return conf.Outcome{}, true, conf.Errorf(conf.CodeInvalid, "this Idempotency-Key was used for another request").
			WithHint("use a new key for each change")
	}
	out = conf.Outcome{Service: service, Version: v, Changed: true}
	if cur := e.o.Records.Record(service); cur != nil && cur.Version == v {
		out.Config = cur.Config
	}
	return out, true, nil
}

// requestID returns the id of a request: its Idempotency-Key, scoped to the caller.
// A request without a key has no id and cannot be replayed.
func requestID(who conf.Principal, key string) string {
	if key == "" {
		return ""
	}
	return who.Name + "/" + key
}

// requestIDs returns the ids under which the request of a draft may be stored. The
// first is the current one.
func requestIDs(who conf.Principal, d conf.Draft) []string {
	ids := []string{requestID(who, d.RequestID)}
	for _, earlier := range d.EarlierIDs {
		ids = append(ids, requestID(who, earlier))
	}
	return ids
}

// expect checks the preconditions of d against the current record.
func expect(cur *conf.Record, d conf.Draft) error {
	if cur == nil && d.Schema != nil {
		cur = &conf.Record{Service: d.Service}
	}
	if cur == nil || cur.Schema == nil && d.Schema == nil {
		return conf.Errorf(conf.CodeNotFound, "service %q has no schema", d.Service).
			WithHint("put its JSON Schema first: holdfast schema put %s FILE", d.Service)
	}
	if d.Expect != nil && *d.Expect != cur.Version {
		return conflict(d.Service, *d.Expect, cur.Version)
	}
	if d.Op == conf.OpSecretDelete && !slices.ContainsFunc(cur.Secrets, func(s conf.SealedSecret) bool { return s.Key == d.Key }) {
		return conf.Errorf(conf.CodeNotFound, "%s has no secret %q that is set", d.Service, d.Key).
			WithHint("holdfast secret list %s shows them", d.Service)
	}
	if d.Op == conf.OpDelete && !cur.Exists() {
		return conf.Errorf(conf.CodeNotFound, "service %q has no configuration to delete", d.Service)
	}
	return nil
}

// conflict is the error for a write that is based on an older version.
func conflict(service string, based, current uint64) *conf.Error {
	e := conf.Errorf(conf.CodeConflict, "%s is at version %d, not %d: somebody else wrote first", service, current, based).
		WithHint("read it again, apply your change to version %d, and send that version", current)
	e.Current = current
	return e
}

func invalid(service string, bad []conf.FieldError) *conf.Error {
	noun := "field is"
	if len(bad) > 1 {
		noun = "fields are"
	}
	e := conf.Errorf(conf.CodeInvalid, "%d %s invalid in %s: %s %s", len(bad), noun, service, bad[0].Key, bad[0].Message).
		WithHint("holdfast schema get %s shows every field with its type, range and default", service)
	e.Details = bad
	return e
}

// storedValues decodes the stored values of cur: an empty object when there are none.
func storedValues(cur *conf.Record) (map[string]any, error) {
	if !cur.Exists() {
		return map[string]any{}, nil
	}
	v, err := conf.ParseObject(cur.Values, conf.MaxDocument)
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "stored values of %s: %w", cur.Service, err)
	}
	return v, nil
}

// mergePatch applies an RFC 7396 merge patch to decoded values. It may modify target.
func mergePatch(target, patch map[string]any) map[string]any {
	for _, k := range conf.SortedKeys(patch) {
		switch p := patch[k].(type) {
		case nil:
			delete(target, k)
		case map[string]any:
			t, ok := target[k].(map[string]any)
			if !ok {
				t = map[string]any{}
			}
			target[k] = mergePatch(t, p)
		default:
			target[k] = p
		}
	}
	return target
}
