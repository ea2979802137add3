package schema

import (
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secret is a secret field with the value that a document has for it.
type Secret struct {
	Field conf.Field
	Value any
}

// SplitSecrets removes the values of secret fields from a document: stored values
// or a patch of them. rest is the document without them, and without the objects
// that contained nothing else. The secrets are sorted by key. values is not
// changed; rest shares its contents.
func (s *Schema) SplitSecrets(values map[string]any) (rest map[string]any, secrets []Secret) {
	rest = values
	for _, p := range s.leaves {
		if !p.isSecret() {
			continue
		}
		if v, ok := lookup(rest, p.path); ok {
			secrets = append(secrets, Secret{s.fieldOf(p), v})
			rest = withoutPath(rest, p.path)
		}
	}
	return rest, secrets
}

// withoutPath copies doc along path, and leaves out the value at its end.
func withoutPath(doc map[string]any, path []string) map[string]any {
	out := make(map[string]any, len(doc))
	for k, v := range doc {
		if k != path[0] {
			out[k] = v
			continue
		}
		if len(path) == 1 {
			continue
		}
		if sub := withoutPath(v.(map[string]any), path[1:]); len(sub) > 0 {
			out[k] = sub
		}
	}
	return out
}

// SecretField returns the secret field of a key, or an error with a hint for any
// other key.
func (s *Schema) SecretField(key string) (conf.Field, error) {
	f, ok := s.Field(key)
	switch {
	case !ok:
		return f, conf.Errorf(conf.CodeNotFound, "%s has no field %q", s.service, conf.Clip(key)).
			WithHint("holdfast schema get %s shows every field", s.service)
	case !f.IsSecret:
		return f, conf.Errorf(conf.CodeInvalid, "%s of %s is not a secret", key, s.service).
			WithHint("set it as any other value: holdfast set %s %s=VALUE; or give it x-secret: true in the schema", s.service, key)
	}
	return f, nil
}

// CheckSecret returns the errors in the value of a secret field, nil for none. The
// messages reveal nothing about the value.
func (s *Schema) CheckSecret(key string, value any) []conf.FieldError {
	p, ok := s.byKey[key]
	if !ok || !p.isSecret() {
		return []conf.FieldError{{Key: key, Message: "is not a secret of this service"}}
	}
	x := explainer{doc: value, own: p}
	switch {
	case findExtremeNumber(value, nil) != nil:
		return []conf.FieldError{{Key: key, Message: numberRule}}
	case checkExtent(measure(value, s.unique), s.costs) != "":
		return []conf.FieldError{{Key: key, Message: "is too large"}}
	}
	for _, sch := range p.checks {
		x.run(sch)
	}
	if len(x.found) == 0 {
		return nil
	}
	sortFindings(x.found)
	msg := "does not fit its schema"
	for _, f := range x.found {
		if len(f.loc) == 0 {
			if m := secretRule(f); m != "" {
				msg = m
				break
			}
		}
	}
	return []conf.FieldError{{Key: key, Message: msg}}
}

// secretRule returns what the schema requires, without the value.
func secretRule(f finding) string {
	switch k := f.kind.(type) {
	case *kind.Type:
		return "must be " + joinOr(articles(k.Want))
	case *kind.Enum, *kind.Const:
		return "is not one of the allowed values"
	case *kind.Pattern, *kind.Format, *kind.MinLength, *kind.MaxLength, *kind.MinItems, *kind.MaxItems, *kind.Minimum, *kind.Maximum,
		*kind.ExclusiveMinimum, *kind.ExclusiveMaximum, *kind.MultipleOf:
		return f.head
	}
	return ""
}
