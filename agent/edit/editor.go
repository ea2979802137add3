package edit

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Proposer puts a command through the log. It returns after the command was
// applied here, so that Records already shows it. Calls overlap freely.
type Proposer interface {
	Propose(ctx context.Context, c command.Command) (command.Result, error)
}

// Records reads the newest state from memory. Calls overlap freely.
type Records interface {
	Record(service string) *conf.Record // nil when the service is unknown
	Services() []*conf.Record           // sorted by name; tombstones included
	Epoch() string
}

// Archive reads what only the store keeps. It answers conf.CodeNotFound for
// what it does not have.
type Archive interface {
	VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error)
	Profile(ctx context.Context, name string) (conf.Profile, error)
	RequestResult(ctx context.Context, id string) (command.Result, bool, error)
}

// Vault seals and opens the values of secrets. Calls overlap freely.
type Vault interface {
	Seal(epoch, service, key string, plain []byte) (encrypted, keyID string, err error)
	Open(epoch, service string, s conf.SealedSecret) ([]byte, error)
}

// Options of an Editor; all members but Now are required.
type Options struct {
	Proposer Proposer
	Records  Records
	Archive  Archive
	Schemas  *schema.Cache
	Signer   func() *seal.Signer
	Vault    Vault        // nil where no secret is sealed or opened
	Ready    func() error // nil while this agent may take writes; the refusal otherwise
	Now      func() time.Time

	// Confirm returns nil when Records has all that was acknowledged before the
	// call. What is answered without the log, such as a conflict, waits for it: an
	// agent that was stopped for a while does not know yet that another one leads.
	// nil: nobody else ever leads.
	Confirm func(context.Context) error
}

// Editor takes drafts in. Make one with New.
type Editor struct {
	o      Options
	locks  *locks
	floors floors
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

// Do carries out one draft of one service. For a dry run it stops before the
// proposal and answers what would have happened.
//
// Put makes a version even when the values are the same (the seed: a version
// increments on every update); Patch and Restore that change nothing do not.
func (e *Editor) Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error) {
	if err := e.admit(who, d.Reason, d.DryRun); err != nil {
		return conf.Outcome{}, err
	}
	if err := conf.CheckService(d.Service); err != nil {
		return conf.Outcome{}, err
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
	unlock, err := e.locks.lock(ctx, d.Service)
	if err != nil {
		return conf.Outcome{}, err
	}
	defer unlock()

	ids := requestIDs(who, d)
	for try := 1; ; try++ {
		out, err := e.once(ctx, who, d, doc, ids)
		if conf.CodeOf(err) != conf.CodeConflict || try == tries {
			return out, err
		}
		if d.Expect != nil {
			// The same request may have been on its way under an earlier id.
			if then, done, lost := e.replay(ctx, ids[1:], d.Service); done && lost == nil {
				return then, nil
			}
			return out, err
		}
		// A change whose outcome nobody waited for was still on its way. The caller
		// named no version, so his change holds on top of it.
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Outcome{}, err
		}
	}
}

// tries is how often a change without an expected version is made anew on top of
// what came in between.
const tries = 3

// once is one attempt of Do. The caller holds the service's lock.
func (e *Editor) once(ctx context.Context, who conf.Principal, d conf.Draft, doc map[string]any, ids []string) (conf.Outcome, error) {
	if d.RequestID != "" {
		if out, done, err := e.replay(ctx, ids, d.Service); done || err != nil {
			return out, err
		}
	}
	cur := e.o.Records.Record(d.Service)
	if expect(cur, d) != nil {
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Outcome{}, err
		}
		if d.RequestID != "" { // it may be among what was not known here a moment ago
			if out, done, err := e.replay(ctx, ids, d.Service); done || err != nil {
				return out, err
			}
		}
		cur = e.o.Records.Record(d.Service)
		if err := expect(cur, d); err != nil {
			return conf.Outcome{}, err
		}
	}
	now := e.o.Now()
	u, secrets, err := e.change(ctx, cur, d, doc, now)
	if err != nil {
		return conf.Outcome{}, err
	}
	out := conf.Outcome{Service: d.Service, Version: u.Version, Changed: true, Config: u.Config}
	if len(secrets) == 0 && (d.Op == conf.OpPatch || d.Op == conf.OpRestore) && cur.Exists() && string(u.Values) == string(cur.Values) && string(u.Config) == string(cur.Config) {
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
	ed := e.edit(who, ids[0], string(d.Op), d.Reason, now)
	ed.Updates = []command.Update{u}
	if ed.Secrets, err = e.seal(ed.Epoch, d.Service, secrets); err != nil {
		return conf.Outcome{}, err
	}
	ed.Audit = e.audit(ed, d.Service)
	ed.Audit[0].Key = d.Key
	return out, e.propose(ctx, ed)
}

// change computes the update that d asks for, and the secrets that it sets. The
// caller holds the service's lock.
func (e *Editor) change(ctx context.Context, cur *conf.Record, d conf.Draft, doc map[string]any, now time.Time) (command.Update, []newSecret, error) {
	switch d.Op {
	case conf.OpPut:
		doc, secrets, err := e.secretsIn(cur, cur.Schema, doc)
		if err != nil {
			return command.Update{}, nil, err
		}
		u, err := e.prepare(cur, cur.Schema, doc, now)
		return u, secrets, err
	case conf.OpPatch:
		patch, secrets, err := e.secretsIn(cur, cur.Schema, doc)
		if err != nil {
			return command.Update{}, nil, err
		}
		values, err := storedValues(cur)
		if err != nil {
			return command.Update{}, nil, err
		}
		u, err := e.prepare(cur, cur.Schema, mergePatch(values, patch), now)
		return u, secrets, err
	case conf.OpSecretSet, conf.OpSecretDelete:
		secret, err := e.secretOf(cur, d)
		if err != nil {
			return command.Update{}, nil, err
		}
		values, err := storedValues(cur)
		if err != nil {
			return command.Update{}, nil, err
		}
		u, err := e.prepare(cur, cur.Schema, values, now)
		return u, []newSecret{secret}, err
	case conf.OpRestore:
		raw, err := e.o.Archive.VersionValues(ctx, d.Service, d.Restore)
		if err != nil {
			return command.Update{}, nil, err
		}
		values, err := conf.ParseObject(raw, conf.MaxDocument)
		if err != nil {
			return command.Update{}, nil, conf.Errorf(conf.CodeCorrupt, "stored values of version %d: %w", d.Restore, err)
		}
		u, err := e.prepareOld(cur, cur.Schema, values, now)
		return u, nil, err
	case conf.OpDelete:
		return e.sign(cur, []byte("{}"), []byte("{}"), true, now), nil, nil
	default:
		return command.Update{}, nil, conf.Errorf(conf.CodeUsage, "unknown operation %q", d.Op)
	}
}

// prepare validates values against schema and makes the signed update.
func (e *Editor) prepare(cur *conf.Record, rawSchema json.RawMessage, values map[string]any, now time.Time) (command.Update, error) {
	s, err := e.o.Schemas.Get(cur.Service, rawSchema)
	if err != nil {
		return command.Update{}, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	if err := refuseSecrets(s, cur.Service, values); err != nil {
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
		return command.Update{}, conf.Errorf(conf.CodeTooLarge, "the document of %s would have %d bytes, over the limit of %d", cur.Service, len(c), conf.MaxDocument)
	}
	return e.sign(cur, v, c, false, now), nil
}

func (e *Editor) sign(cur *conf.Record, values, config []byte, deleted bool, now time.Time) command.Update {
	s := e.o.Signer()
	// Receivers order by issued_at. It grows even when this leader's clock is
	// behind that of the one before.
	now = e.floors.next(cur, now)
	m := s.Sign(cur.Service, config, e.o.Records.Epoch(), now)
	return command.Update{
		Service: cur.Service, Prev: cur.Version, Version: cur.Version + 1, Values: values, Config: config,
		Checksum: m.Checksum, IssuedAt: m.IssuedAt, Signature: m.Signature, KeyID: s.KeyID(), Deleted: deleted,
	}
}

// edit is the frame of a command: whoever, whenever, why.
func (e *Editor) edit(who conf.Principal, id, action, reason string, now time.Time) *command.Edit {
	return &command.Edit{
		ID: id, Epoch: e.o.Records.Epoch(), At: conf.FormatTime(now), By: who.Name, Reason: reason, Action: action,
	}
}

func (e *Editor) audit(ed *command.Edit, services ...string) []conf.Access {
	rows := make([]conf.Access, len(services))
	for i, s := range services {
		rows[i] = conf.Access{UserID: ed.By, Action: "write", Service: s, Success: true, Reason: ed.Action, Timestamp: ed.At}
		if ed.Reason != "" {
			rows[i].Reason += ": " + ed.Reason
		}
	}
	return rows
}

func (e *Editor) propose(ctx context.Context, ed *command.Edit) error {
	res, err := e.o.Proposer.Propose(ctx, ed)
	if err != nil {
		return err
	}
	if res.Err != nil {
		return res.Err
	}
	return nil
}

// admit checks what holds for every kind of edit. A dry run changes nothing, so
// a reader may ask for it, and an agent without a replica can answer it.
func (e *Editor) admit(who conf.Principal, reason string, dryRun bool) error {
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

// replay answers a request that was carried out before: the client never saw
// the answer and asks again with the same Idempotency-Key.
func (e *Editor) replay(ctx context.Context, ids []string, service string) (conf.Outcome, bool, error) {
	var res command.Result
	var ok bool
	for _, id := range ids {
		var err error
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
	out := conf.Outcome{Service: service, Version: v, Changed: true}
	if cur := e.o.Records.Record(service); cur != nil && cur.Version == v {
		out.Config = cur.Config
	}
	return out, true, nil
}

// requestID scopes a caller's key to the caller. A change without a key cannot
// come again: it has no id, and leaves no row that would say so.
func requestID(who conf.Principal, key string) string {
	if key == "" {
		return ""
	}
	return who.Name + "/" + key
}

// requestIDs are the ids by which the request of a draft may be known: the first
// is its own now.
func requestIDs(who conf.Principal, d conf.Draft) []string {
	ids := []string{requestID(who, d.RequestID)}
	for _, earlier := range d.EarlierIDs {
		ids = append(ids, requestID(who, earlier))
	}
	return ids
}

func expect(cur *conf.Record, d conf.Draft) error {
	if cur == nil || cur.Schema == nil {
		return conf.Errorf(conf.CodeNotFound, "service %q has no schema", d.Service).
			WithHint("put its JSON Schema first: holdfast schema put %s FILE", d.Service)
	}
	if d.Expect != nil && *d.Expect != cur.Version {
		return Conflict(d.Service, *d.Expect, cur.Version)
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

// Conflict is the refusal of a write that saw an older version.
func Conflict(service string, saw, current uint64) *conf.Error {
	e := conf.Errorf(conf.CodeConflict, "%s is at version %d, not %d: somebody else wrote first", service, current, saw).
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

// mergePatch is RFC 7396 on decoded values. target may be changed.
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

// sortedUnique is the order in which locks are taken.
func sortedUnique(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}
