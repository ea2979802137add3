package documents

import (
	"log/slog"
	"slices"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// environment reads the values that services have in the environment of the agent.
type environment struct {
	lookup  func(string) (string, bool)
	allowed func(service, variable string) bool
	schemas *schema.Cache
	warn    func(msg string, args ...any)
}

// quietly returns the environment without its warnings.
func (e environment) quietly() environment {
	e.warn = func(string, ...any) {}
	return e
}

// mayHave reports whether a field may have its value from the variable that its schema
// names: a schema is written by any caller that may change configuration.
func (e environment) mayHave(service string, f conf.Field) bool {
	if e.allowed(service, f.Env) {
		return true
	}
	e.warn("a schema names a variable that is not for its service: it is not served", "service", service, "key", f.Key, "variable", f.Env,
		"hint", "rename the variable; or list it in CONFIG_ENV_ALLOW, unless it is a key or a token of the agent")
	return false
}

// Value returns the environment's value of a secret field; not ok when it has none, or
// one of the wrong type.
func (e environment) Value(service string, f conf.Field) (v any, ok bool) {
	if f.SecretSource == nil || *f.SecretSource != conf.SourceEnv {
		return nil, false
	}
	text, ok := e.lookup(f.Env)
	if !ok {
		return nil, false
	}
	if !e.mayHave(service, f) {
		return nil, false
	}
	v, err := schema.ParseText(f, text)
	if err != nil { // the text is a secret: name the variable only
		e.warn("an environment secret does not fit its field: it is not served", "service", service, "key", f.Key, "variable", f.Env)
		return nil, false
	}
	return v, true
}

// Secrets are the secret values that this agent serves to an authenticated caller. They
// are opened once per version, and stay in memory.
type Secrets struct {
	environment
	sealer   *keys.Sealer
	alarms   *alarm.Set
	own      string // the service beside this agent
	unopened findings[UnopenedSecret]
	problems findings[EnvProblem]
}

// SecretsOptions set up Secrets.
type SecretsOptions struct {
	Lookup  func(string) (string, bool)         // the environment of the agent
	Allowed func(service, variable string) bool // which of it a field of a service may have
	Schemas *schema.Cache
	Sealer  *keys.Sealer
	Service string // the service beside this agent, "" for none
	Logger  *slog.Logger
}

// NewSecrets returns Secrets. It opens none yet.
func NewSecrets(o SecretsOptions) *Secrets {
	return &Secrets{environment: environment{o.Lookup, o.Allowed, o.Schemas, o.Logger.Warn}, sealer: o.Sealer, alarms: alarm.NewSet(o.Logger), own: o.Service}
}

// Values returns the values of a record's secret fields, at their places in the
// document: from the environment, else those of the store that this agent can open.
func (s *Secrets) Values(service string, rec *conf.Record) map[string]any {
	// Most services have no secrets, and their schemas need not be compiled for
	// this: compiling is nearly all of a start from the last-known-good file.
	if len(rec.Secrets) == 0 && !mayReadEnv(rec.Schema) {
		s.unopened.set(rec, nil)
		s.alarmUnopened(service, nil)
		return nil
	}
	sch, err := s.schemas.Get(service, rec.Schema)
	if err != nil {
		s.warn("schema of a stored service does not compile: its secrets are not served", "service", service, "err", err)
		return nil
	}
	out := map[string]any{}
	open := map[string]bool{}
	add := func(f conf.Field, v any) {
		open[f.Key] = true
		conf.Merge(out, conf.FieldPath(f).Nest(v))
	}
	var unopened []UnopenedSecret
	for _, sealed := range rec.Secrets {
		f, ok := sch.Field(sealed.Key)
		if !ok || !f.IsSecret {
			continue // unused: the schema has changed since
		}
		v, err := s.Open(rec, sealed)
		if err != nil {
			// A sidecar holds the key of one service; under the same id as all others.
			if service == s.own || !s.sealer.ServiceOnly() {
				unopened = append(unopened, UnopenedSecret{service, sealed.Key, sealed.KeyID, conf.CodeOf(err) == conf.CodeUnsupported})
			}
			continue
		}
		add(f, v)
	}
	for _, f := range sch.Fields() {
		if f.IsSecret {
			if v, ok := s.Value(service, f); ok {
				add(f, v)
			}
		}
	}
	unopened = slices.DeleteFunc(unopened, func(u UnopenedSecret) bool { return open[u.Key] })
	s.unopened.set(rec, unopened)
	s.alarmUnopened(service, unopened)
	return out
}

// Open decrypts a stored secret of a record.
func (s *Secrets) Open(rec *conf.Record, sealed conf.SealedSecret) (any, error) {
	plain, err := s.sealer.Open(rec.Epoch, rec.Service, sealed)
	if err != nil {
		return nil, err
	}
	v, err := conf.ParseJSON(plain, edit.MaxSecret)
	if err != nil { // its text may hold a piece of the value
		return nil, conf.Errorf(conf.CodeCorrupt, "the secret %s of %s is no JSON", sealed.Key, rec.Service)
	}
	return v, nil
}

// OneServiceOnly reports whether this agent is a sidecar, which has the key of one service.
func (s *Secrets) OneServiceOnly() bool { return s.sealer.ServiceOnly() }
