package edit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// MaxSecret is the size of a secret value, as JSON.
const MaxSecret = 64 << 10

// newSecret is a secret on its way to be sealed. It prints as its key.
type newSecret struct {
	key    string
	plain  []byte // RFC 8785
	remove bool
}

func (s newSecret) String() string { return s.key }

func checkSecretDraft(d conf.Draft) error {
	if err := conf.CheckKey(d.Key); err != nil {
		return err
	}
	if len(d.Document) > MaxSecret {
		return tooLarge(d.Key)
	}
	if _, err := conf.ParseJSON(d.Document, MaxSecret); err != nil {
		return err
	}
	return nil
}

func tooLarge(key string) error {
	return conf.Errorf(conf.CodeTooLarge, "the value of %s is over the limit of %d bytes", key, MaxSecret)
}

// secretsIn takes the secrets out of a document or a patch, and validates them.
// What is shown in their place means that they stay as they are; null removes one.
// A secret that the document does not name stays too: whoever reads a document
// does not see it, and must not lose it by sending the document back.
func (e *Editor) secretsIn(cur *conf.Record, rawSchema json.RawMessage, doc map[string]any) (map[string]any, []newSecret, error) {
	s, err := e.o.Schemas.Get(cur.Service, rawSchema)
	if err != nil {
		return nil, nil, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	rest, found := s.SplitSecrets(doc)
	var out []newSecret
	var env []string
	var bad []conf.FieldError
	for _, f := range found {
		if f.Value == conf.Masked {
			continue
		}
		if fromEnv(f.Field) {
			env = append(env, f.Field.Key)
			continue
		}
		if f.Value == nil {
			out = append(out, newSecret{key: f.Field.Key, remove: true})
			continue
		}
		n, wrong, err := checkedSecret(s, f.Field.Key, f.Value)
		if err != nil {
			return nil, nil, err
		}
		bad = append(bad, wrong...)
		out = append(out, n)
	}
	if len(env) > 0 {
		return nil, nil, immutable(cur.Service, env)
	}
	if len(bad) > 0 {
		return nil, nil, invalid(cur.Service, bad)
	}
	return rest, out, nil
}

// secretOf is the one secret that a draft sets or removes.
func (e *Editor) secretOf(cur *conf.Record, d conf.Draft) (newSecret, error) {
	if d.Op == conf.OpSecretDelete { // also of one that no field uses any more
		return newSecret{key: d.Key, remove: true}, nil
	}
	s, err := e.o.Schemas.Get(cur.Service, cur.Schema)
	if err != nil {
		return newSecret{}, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	f, err := s.SecretField(d.Key)
	if err != nil {
		return newSecret{}, err
	}
	if fromEnv(f) {
		return newSecret{}, immutable(cur.Service, []string{d.Key})
	}
	value, err := conf.ParseJSON(d.Document, MaxSecret)
	if err != nil {
		return newSecret{}, err
	}
	n, bad, err := checkedSecret(s, d.Key, value)
	if err == nil && len(bad) > 0 {
		err = invalid(cur.Service, bad)
	}
	return n, err
}

func checkedSecret(s *schema.Schema, key string, value any) (newSecret, []conf.FieldError, error) {
	if bad := s.CheckSecret(key, value); len(bad) > 0 {
		return newSecret{}, bad, nil
	}
	plain, err := seal.Canonical(value)
	if err != nil { // its message may hold a piece of the value
		return newSecret{}, []conf.FieldError{{Key: key, Message: "has no canonical form"}}, nil //nolint:nilerr // see above
	}
	if len(plain) > MaxSecret {
		return newSecret{}, nil, tooLarge(key)
	}
	return newSecret{key: key, plain: plain}, nil, nil
}

func fromEnv(f conf.Field) bool {
	return f.SecretSource != nil && *f.SecretSource == conf.SourceEnv
}

func immutable(service string, keys []string) error {
	e := conf.Errorf(conf.CodeImmutable, "%s of %s comes from the environment and cannot be changed here", keys[0], service).
		WithHint("set it in the environment or the .env file of the agent, and leave it out of the document")
	for _, k := range keys {
		e.Details = append(e.Details, conf.FieldError{Key: k, Message: "comes from the environment of the agent"})
	}
	return e
}

// seal makes the log's form of secrets.
func (e *Editor) seal(epoch, service string, secrets []newSecret) ([]command.Secret, error) {
	var out []command.Secret
	for _, s := range secrets {
		c := command.Secret{Service: service, Key: s.key, Deleted: s.remove}
		if !s.remove {
			if e.o.Vault == nil {
				return nil, noVault()
			}
			var err error
			if c.EncryptedValue, c.KeyID, err = e.o.Vault.Seal(epoch, service, s.key, s.plain); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func noVault() error {
	return conf.Errorf(conf.CodeUnsupported, "this agent has no master key to seal secrets with")
}

// prepareOld is prepare for values that were stored before: under an earlier
// schema something in them may not have been a secret. Such values are left out.
func (e *Editor) prepareOld(cur *conf.Record, rawSchema json.RawMessage, values map[string]any, now time.Time) (command.Update, error) {
	s, err := e.o.Schemas.Get(cur.Service, rawSchema)
	if err != nil {
		return command.Update{}, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	values, _ = s.SplitSecrets(values)
	return e.prepare(cur, rawSchema, values, now)
}

// refuseSecrets is the last guard in front of the signature.
func refuseSecrets(s *schema.Schema, service string, values map[string]any) error {
	_, found := s.SplitSecrets(values)
	if len(found) == 0 {
		return nil
	}
	e := conf.Errorf(conf.CodeInvalid, "%s of %s is a secret, and secrets do not belong here: nothing was written", found[0].Field.Key, service).
		WithHint("leave it out, and set it with: holdfast secret set %s %s", service, found[0].Field.Key)
	for _, f := range found {
		e.Details = append(e.Details, conf.FieldError{Key: f.Field.Key, Message: "is a secret and is never stored in clear"})
	}
	return e
}

// becomeSecret are the stored values in clear of what is a secret under a new
// schema: they move to where secrets are. The versions and the history of before
// keep them, which is why docs/security.md asks for a new value.
func (e *Editor) becomeSecret(cur *conf.Record, rawSchema json.RawMessage, values map[string]any) ([]newSecret, error) {
	s, err := e.o.Schemas.Get(cur.Service, rawSchema)
	if err != nil {
		return nil, err
	}
	_, found := s.SplitSecrets(values)
	var out []newSecret
	var bad []conf.FieldError
	for _, f := range found {
		if f.Value == nil || slices.ContainsFunc(cur.Secrets, func(c conf.SealedSecret) bool { return c.Key == f.Field.Key }) {
			continue
		}
		n, wrong, err := checkedSecret(s, f.Field.Key, f.Value)
		if err != nil {
			return nil, err
		}
		bad = append(bad, wrong...)
		out = append(out, n)
	}
	if len(bad) > 0 {
		return nil, invalid(cur.Service, bad)
	}
	return out, nil
}

// stillFit refuses a schema that the secrets which are set do not fit. A secret
// that the schema does not have any more stays, sealed and unused: a mistake in a
// schema must not destroy what nobody can enter again.
func (e *Editor) stillFit(cur *conf.Record, rawSchema json.RawMessage) error {
	if len(cur.Secrets) == 0 || e.o.Vault == nil {
		return nil
	}
	s, err := e.o.Schemas.Get(cur.Service, rawSchema)
	if err != nil {
		return err
	}
	var bad []conf.FieldError
	for _, sealed := range cur.Secrets {
		f, ok := s.Field(sealed.Key)
		if !ok || !f.IsSecret || fromEnv(f) {
			continue
		}
		plain, err := e.o.Vault.Open(cur.Epoch, cur.Service, sealed)
		if err != nil {
			continue // nobody reads it as it is
		}
		value, err := conf.ParseJSON(plain, MaxSecret)
		if err != nil {
			continue
		}
		for _, w := range s.CheckSecret(sealed.Key, value) {
			w.Message = "the secret that is set " + w.Message
			bad = append(bad, w)
		}
	}
	if len(bad) > 0 {
		return invalid(cur.Service, bad)
	}
	return nil
}

// Reseal seals the secrets of a record for another epoch: what an Edit that gives
// the record its version there must carry. Those that do not open are named in
// lost, as service/key.
func Reseal(v Vault, r *conf.Record, epoch string) (out []command.Secret, lost []string, err error) {
	for _, s := range r.Secrets {
		if v == nil {
			return nil, nil, noVault()
		}
		plain, err := v.Open(r.Epoch, r.Service, s)
		if err != nil {
			lost = append(lost, r.Service+"/"+s.Key)
			continue
		}
		c := command.Secret{Service: r.Service, Key: s.Key, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt}
		if c.EncryptedValue, c.KeyID, err = v.Seal(epoch, r.Service, s.Key, plain); err != nil {
			return nil, nil, err
		}
		out = append(out, c)
	}
	return out, lost, nil
}

// Reveal gives the value of a secret that the store keeps, as JSON. That it was
// asked for, by whom and why, is in the access log of the cluster before: without
// a quorum nothing is revealed.
func (e *Editor) Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error) {
	if err := e.admit(who, reason, false); err != nil {
		return nil, err
	}
	if strings.TrimSpace(reason) == "" {
		return nil, conf.Errorf(conf.CodeInvalid, "a secret is revealed for a reason only").WithHint("say why: the access log keeps it")
	}
	if err := conf.CheckService(service); err != nil {
		return nil, err
	}
	if err := conf.CheckKey(key); err != nil {
		return nil, err
	}
	if err := e.o.Confirm(ctx); err != nil {
		return nil, err
	}
	cur := e.o.Records.Record(service)
	if cur == nil {
		return nil, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services that exist: holdfast get")
	}
	sealed, err := e.stored(cur, key)
	if err != nil {
		return nil, err
	}
	if e.o.Vault == nil {
		return nil, noVault()
	}
	plain, err := e.o.Vault.Open(cur.Epoch, service, sealed)
	row := conf.Access{
		UserID: who.Name, Action: "reveal_secret", Service: service, Key: key, Success: err == nil, Reason: reason,
		Timestamp: conf.FormatTime(e.o.Now()),
	}
	res, logged := e.o.Proposer.Propose(ctx, &command.Audit{Rows: []conf.Access{row}})
	switch {
	case logged != nil:
		return nil, logged
	case res.Err != nil:
		return nil, res.Err
	case err != nil:
		return nil, err
	}
	return plain, nil
}

// stored finds a sealed secret, with a refusal that says why there is none.
func (e *Editor) stored(cur *conf.Record, key string) (conf.SealedSecret, error) {
	for _, s := range cur.Secrets {
		if s.Key == key {
			return s, nil
		}
	}
	s, err := e.o.Schemas.Get(cur.Service, cur.Schema)
	if err != nil {
		return conf.SealedSecret{}, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", cur.Service, err)
	}
	f, err := s.SecretField(key)
	switch {
	case err != nil:
		return conf.SealedSecret{}, err
	case fromEnv(f):
		return conf.SealedSecret{}, conf.Errorf(conf.CodeUnsupported, "%s of %s comes from the environment of each agent and is not stored", key, cur.Service).
			WithHint("read %s on the machine of the agent, or ask its local API with its token", f.Env)
	}
	return conf.SealedSecret{}, conf.Errorf(conf.CodeNotFound, "the secret %s of %s is not set", key, cur.Service).
		WithHint("set it: holdfast secret set %s %s", cur.Service, key)
}
