package documents

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// EnvProblem is a plain field whose variable is set in the environment of the agent to
// what the schema does not allow: the stored value is served instead.
type EnvProblem struct {
	Service, Key, Variable string
	Want                   string // what the field takes; never the text of the variable
}

// overlay is what the environment decides of one record.
type overlay struct {
	config   []byte // RFC 8785; nil when the environment decides nothing
	values   map[string]any
	problems []EnvProblem
}

// EnvProblems lists the variables that are not served in a snapshot, because the schema
// does not allow what they are set to.
func (s *Secrets) EnvProblems(snap *Snapshot) []EnvProblem { return s.problems.now(snap) }

// maxNamed bounds how many variables a text names.
const maxNamed = 10

// EnvError names the variables that are not served, nil for none. Its text has the hint,
// because health has no other place for it.
func EnvError(problems []EnvProblem) error {
	if len(problems) == 0 {
		return nil
	}
	var list []string
	for _, p := range problems[:min(maxNamed, len(problems))] {
		list = append(list, fmt.Sprintf("%s is not served as %s of %s, which must be %s", p.Variable, p.Key, p.Service, p.Want))
	}
	if more := len(problems) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return conf.Errorf(conf.CodeInvalid, "the environment of this agent has variables that do not fit, and the stored values are served: %s; "+
		"correct the variables and start the agent again", strings.Join(list, ", "))
}

// Overlay returns what the environment of this agent decides of a record's document, for
// the local API. The record, and with it everything that is signed, stays as it is.
func (s *Secrets) Overlay(rec *conf.Record) localapi.Overlay {
	sch := s.schemaWithEnv(rec)
	if sch == nil {
		s.problems.set(rec, nil)
		s.alarmProblems(rec.Service, nil)
		return localapi.Overlay{}
	}
	o := s.overlay(sch, rec)
	s.problems.set(rec, o.problems)
	s.alarmProblems(rec.Service, o.problems)
	out := localapi.Overlay{Config: o.config, Keys: conf.SortedKeys(o.values)}
	for _, f := range sch.Fields() {
		if f.IsSecret {
			if _, ok := s.quietly().Value(rec.Service, f); ok {
				out.SecretKeys = append(out.SecretKeys, f.Key)
			}
		}
	}
	return out
}

// alarmProblems raises an alarm for each variable of a service that does not fit, and ends
// those of the others.
func (s *Secrets) alarmProblems(service string, problems []EnvProblem) {
	group := "variable " + service + " "
	var subjects []string
	for _, p := range problems {
		subjects = append(subjects, group+p.Key)
		s.alarms.Raise(alarm.VariableUnfit, group+p.Key, conf.Errorf(conf.CodeInvalid, "it must be %s", p.Want).
			WithHint("correct the variable in the environment of the agent, and start it again"), "service", p.Service, "key", p.Key, "variable", p.Variable)
	}
	s.alarms.Only(group, subjects...)
}

// EnvValues returns the plain values that the environment decides, by key. A field that
// is missing has its value from elsewhere.
func (s *Secrets) EnvValues(rec *conf.Record) map[string]any {
	sch := s.schemaWithEnv(rec)
	if sch == nil {
		return nil
	}
	return s.overlay(sch, rec).values
}

// schemaWithEnv returns the schema of a record; nil when none of its fields can come from
// the environment. Most have none, and need not be compiled for this: see Values.
func (s *Secrets) schemaWithEnv(rec *conf.Record) *schema.Schema {
	if !rec.Exists() || !mayReadEnv(rec.Schema) {
		return nil
	}
	sch, err := s.schemas.Get(rec.Service, rec.Schema)
	if err != nil {
		return nil // Values logs it
	}
	return sch
}

// mayReadEnv reports whether a schema may have a field from the environment. (The stored
// form is canonical, its names are plain.)
func mayReadEnv(schema []byte) bool {
	for from := 0; ; {
		i := bytes.Index(schema[from:], []byte(`"x-`))
		if i < 0 {
			return false
		}
		from += i + len(`"x-`)
		if bytes.HasPrefix(schema[from:], []byte(`env"`)) || bytes.HasPrefix(schema[from:], []byte(`secret-source"`)) {
			return true
		}
	}
}

// overlay puts the variables into the document, in the order of their keys. One that
// makes the document invalid is left out.
func (s *Secrets) overlay(sch *schema.Schema, rec *conf.Record) (o overlay) {
	var doc map[string]any
	for _, f := range sch.Fields() {
		if f.IsSecret || f.Env == "" {
			continue
		}
		text, ok := s.lookup(f.Env)
		if !ok || !s.mayHave(rec.Service, f) {
			continue
		}
		if doc == nil {
			var err error
			if doc, err = conf.ParseObject(rec.Config, conf.MaxDocument); err != nil {
				return overlay{} // damaged: it is served as it is
			}
		}
		v, next, config := s.put(sch, doc, f, text)
		if config == nil {
			o.problems = append(o.problems, EnvProblem{rec.Service, f.Key, f.Env, schema.Wants(f)})
			continue
		}
		if o.values == nil {
			o.values = map[string]any{}
		}
		doc, o.config, o.values[f.Key] = next, config, v
	}
	return o
}

// put returns the document with the value of one field, and its canonical form; nil when
// the text is no value of the field, or the document is invalid with it.
func (s *Secrets) put(sch *schema.Schema, doc map[string]any, f conf.Field, text string) (v any, next map[string]any, config []byte) {
	v, err := schema.ParseText(f, text)
	if err != nil || !utf8.ValidString(text) {
		return nil, nil, nil
	}
	changed, bad := sch.Effective(conf.FieldPath(f).With(doc, v))
	if len(bad) > 0 {
		return nil, nil, nil
	}
	if config, err = seal.Canonical(changed); err != nil || len(config) > conf.MaxDocument {
		return nil, nil, nil
	}
	return v, changed, config
}
