package edit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// MaxSecret is the maximum size of a secret value, as JSON.
const MaxSecret = 64 << 10

// newSecret is a secret that a draft sets or removes. It prints as its key.
type newSecret struct {
	key    string
	plain  []byte // canonical JSON
	remove bool
}

func (s newSecret) String() string { return s.key }

func checkSecretDraft(d conf.Draft) error {
	if err := conf.CheckAnyKey(d.Key); err != nil {
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

// splitSecrets takes the secrets out of a document or a patch, and validates them.
// A masked secret stays as it is, and null removes one. A secret that the document
// does not name stays too: a document that was read has no secrets, and sending it
// back must not lose them.
func splitSecrets(s *schema.Schema, service string, doc map[string]any) (rest map[string]any, secrets []newSecret, err error) {
	rest, found := s.SplitSecrets(doc)
	found = slices.DeleteFunc(found, func(f schema.Secret) bool { return f.Value == conf.Masked })
	var env []string
	for _, f := range found {
		if fromEnv(f.Field) {
			env = append(env, f.Field.Key)
		}
	}
	if len(env) > 0 {
		return nil, nil, immutable(service, env)
	}
	secrets, err = checkSecrets(s, service, found, true)
	return rest, secrets, err
}

// checkSecrets validates secrets. With remove, null removes a secret.
func checkSecrets(s *schema.Schema, service string, found []schema.Secret, remove bool) ([]newSecret, error) {
	var out []newSecret
	var bad []conf.FieldError
	for _, f := range found {
		key := f.Field.Key
		if f.Value == nil && remove {
			out = append(out, newSecret{key: key, remove: true})
			continue
		}
		wrong := s.CheckSecret(key, f.Value)
		var plain []byte
		if len(wrong) == 0 {
			var err error
			if plain, err = seal.Canonical(f.Value); err != nil { // its text may quote the value
				wrong = []conf.FieldError{{Key: key, Message: "has no canonical form"}}
			}
		}
		if len(plain) > MaxSecret {
			return nil, tooLarge(key)
		}
		bad = append(bad, wrong...)
		out = append(out, newSecret{key: key, plain: plain})
	}
	if len(bad) > 0 {
		return nil, invalid(service, bad)
	}
	return out, nil
}

// secretOf returns the one secret that a draft sets or removes.
func secretOf(s *schema.Schema, service string, d conf.Draft) ([]newSecret, error) {
	if d.Op == conf.OpSecretDelete { // also one that the schema does not have any more
		return []newSecret{{key: d.Key, remove: true}}, nil
	}
	f, err := s.SecretField(d.Key)
	if err != nil {
		return nil, err
	}
	if fromEnv(f) {
		return nil, immutable(service, []string{d.Key})
	}
	value, err := conf.ParseJSON(d.Document, MaxSecret)
	if err != nil {
		return nil, err
	}
	return checkSecrets(s, service, []schema.Secret{{Field: f, Value: value}}, false)
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

// seal encrypts secrets for the Raft log.
func (e *Editor) seal(epoch, service string, secrets []newSecret) ([]command.Secret, error) {
	var out []command.Secret
	for _, s := range secrets {
		c := command.Secret{Service: service, Key: s.key, Deleted: s.remove}
		if !s.remove {
			if e.o.Sealer == nil {
				return nil, noSealerError()
			}
			var err error
			if c.EncryptedValue, c.KeyID, err = e.o.Sealer.Seal(epoch, service, s.key, s.plain); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func noSealerError() error {
	return conf.Errorf(conf.CodeUnsupported, "this agent has no master key to seal secrets with")
}

// rejectSecrets is the last check before the signature.
func rejectSecrets(s *schema.Schema, service string, values map[string]any) error {
	_, found := s.SplitSecrets(values)
	if len(found) == 0 {
		return nil
	}
	e := conf.Errorf(conf.CodeInvalid, "%s of %s is a secret and cannot be stored in a document: nothing was written", found[0].Field.Key, service).
		WithHint("leave it out, and set it with: holdfast secret set %s %s", service, found[0].Field.Key)
	for _, f := range found {
		e.Details = append(e.Details, conf.FieldError{Key: f.Field.Key, Message: "is a secret and is never stored in clear"})
	}
	return e
}

// moveToSecrets returns the stored plain values that are secrets under the new schema
// s. Earlier versions and the history keep them in clear, which is why
// docs/security.md asks for a new value.
// Those in replaced get another value, or are removed, in the same edit.
func moveToSecrets(cur *conf.Record, s *schema.Schema, values map[string]any, replaced []newSecret) ([]newSecret, error) {
	_, found := s.SplitSecrets(values)
	found = slices.DeleteFunc(found, func(f schema.Secret) bool {
		return f.Value == nil || hasSecret(cur, f.Field.Key) || names(replaced, f.Field.Key)
	})
	return checkSecrets(s, cur.Service, found, false)
}

// names reports whether secrets has one of that key.
func names(secrets []newSecret, key string) bool {
	return slices.ContainsFunc(secrets, func(s newSecret) bool { return s.key == key })
}

func hasSecret(cur *conf.Record, key string) bool {
	return slices.ContainsFunc(cur.Secrets, func(s conf.SealedSecret) bool { return s.Key == key })
}

// checkStoredSecrets rejects a schema under which a stored secret is invalid. A
// secret that the schema does not have any more stays, sealed and unused: a mistake
// in a schema must not destroy it.
// Those in replaced get another value, or are removed, in the same edit.
func (e *Editor) checkStoredSecrets(cur *conf.Record, s *schema.Schema, replaced []newSecret) error {
	if len(cur.Secrets) == 0 || e.o.Sealer == nil {
		return nil
	}
	var bad []conf.FieldError
	for _, sealed := range cur.Secrets {
		f, ok := s.Field(sealed.Key)
		if !ok || !f.IsSecret || fromEnv(f) || names(replaced, sealed.Key) {
			continue
		}
		plain, err := e.o.Sealer.Open(cur.Epoch, cur.Service, sealed)
		if err != nil {
			continue // no agent can read it
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

// Reveal returns the value of a stored secret, as JSON. The access log of the cluster
// records the caller and the reason first: without a quorum nothing is revealed.
func (e *Editor) Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error) {
	if err := e.authorize(who, reason, false); err != nil {
		return nil, err
	}
	if strings.TrimSpace(reason) == "" {
		return nil, conf.Errorf(conf.CodeInvalid, "a secret is revealed only with a reason").WithHint("give a reason: it is written to the access log")
	}
	if err := conf.CheckService(service); err != nil {
		return nil, err
	}
	if err := conf.CheckAnyKey(key); err != nil {
		return nil, err
	}
	if err := e.o.Confirm(ctx); err != nil {
		return nil, err
	}
	cur := e.o.Records.Record(service)
	if cur == nil {
		return nil, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services that exist: holdfast get")
	}
	sealed, err := e.sealedSecret(cur, key)
	if err != nil {
		return nil, err
	}
	if e.o.Sealer == nil {
		return nil, noSealerError()
	}
	plain, err := e.o.Sealer.Open(cur.Epoch, service, sealed)
	row := conf.Access{
		UserID: who.Name, Action: "reveal_secret", Service: service, Key: key, Success: err == nil, Reason: reason,
		Timestamp: conf.FormatTime(e.o.Now()),
	}
	if logged := propose(ctx, e, &command.Audit{Rows: []conf.Access{row}}); logged != nil {
		return nil, logged
	}
	if err != nil {
		return nil, err
	}
	return plain, nil
}

// sealedSecret returns a stored secret, or an error that says why there is none.
func (e *Editor) sealedSecret(cur *conf.Record, key string) (conf.SealedSecret, error) {
	for _, s := range cur.Secrets {
		if s.Key == key {
			return s, nil
		}
	}
	s, err := storedSchema(e, cur, cur.Schema)
	if err != nil {
		return conf.SealedSecret{}, err
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
