package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// location is the location of a property during the walk of the schema.
type location struct {
	path       []string
	key        string
	complexity string
	required   bool
	stack      []*jsonschema.Schema // the enclosing objects
	defaults   map[string]any       // the default of the enclosing object
	closed     bool                 // an enclosing object may rule out that a member is present
}

// rootObject fills in c.out.root.
func (c *compiler) rootObject(sch *jsonschema.Schema) {
	v := c.mergeNodes(sch)
	if v.types&isObject == 0 || v.types != isObject && len(c.declared(v)) == 0 {
		c.fail("(schema)", `must describe an object: say "type": "object" and list its "properties"`)
		return
	}
	if is := c.isSecret(v, false); is || c.hidesSecret(v) {
		c.fail("(schema)", "a secret must be a declared property, so that its value can be kept apart")
		return
	}
	defaults := map[string]any{}
	if d, ok := c.member(v, "default"); ok {
		c.checkRootDefault(d, defaults)
	}
	c.out.root = c.object(v, location{required: true, stack: v.chain, defaults: defaults})
}

// checkRootDefault adds the default of a whole document to those of its members.
func (c *compiler) checkRootDefault(d any, defaults map[string]any) {
	m, ok := d.(map[string]any)
	if !ok {
		c.fail("(schema)", "default must be an object, got %s", conf.KindOf(d))
		return
	}
	maps.Copy(defaults, m)
}

// declared returns the properties of an object by name. Several parts of an allOf
// may declare the same name.
func (c *compiler) declared(v mergedSchema) map[string][]*jsonschema.Schema {
	out := map[string][]*jsonschema.Schema{}
	for _, s := range v.chain {
		for name, p := range s.Properties {
			out[name] = append(out[name], p)
		}
	}
	return out
}

// hidesSecret reports whether an object can contain a secret outside its declared properties.
func (c *compiler) hidesSecret(v mergedSchema) bool {
	for _, s := range v.chain {
		b := childrenOf(s)
		b.props = nil
		hidden := false
		check := func(child *jsonschema.Schema) { hidden = hidden || c.secretNodes[child] }
		b.each(check)
		eachInPlace(s, func(child *jsonschema.Schema) {
			if !slices.Contains(v.chain, child) {
				check(child)
			}
		})
		if hidden {
			return true
		}
	}
	return false
}

func (c *compiler) object(v mergedSchema, at location) *object {
	props := c.declared(v)
	o := &object{props: make(map[string]*prop, len(props)), names: conf.SortedKeys(props)}
	required := map[string]bool{}
	for _, s := range v.chain {
		at.closed = at.closed || relatesMembers(s)
		for _, name := range s.Required {
			required[name] = true
		}
	}
	var secrets []string
	for _, name := range o.names {
		if len(c.out.leaves) > MaxFields {
			c.fail("(schema)", "more than %d fields", MaxFields)
			return o
		}
		p := c.property(name, c.mergeNodes(props[name]...), props[name], required[name], at)
		o.props[name] = p
		if p.isSecret() {
			secrets = append(secrets, name)
		}
	}
	if len(secrets) > 0 {
		c.dropRequired(v, secrets)
	}
	return o
}

// property compiles one property, and all below it.
func (c *compiler) property(name string, v mergedSchema, list []*jsonschema.Schema, required bool, at location) *prop {
	p := &prop{name: name, path: append(slices.Clone(at.path), name), required: required}
	key := name
	if at.key != "" {
		key = at.key + "." + name
	}
	p.field = conf.Field{Key: key, Required: required && at.required}
	if slices.ContainsFunc(p.path, func(name string) bool { return strings.Contains(name, ".") }) {
		p.field.Path = p.path
	}
	if !c.rule.allows(name) || len(key) > conf.MaxKey {
		c.fail(key, "bad name %q: %s, at most %d bytes in all%s", conf.Clip(name), c.rule, conf.MaxKey, c.rule.wayOut(name))
		return p
	}
	c.annotate(p, v, at)
	def, hasDefault := c.member(v, "default")
	outer, inherited := at.defaults[name]
	if inherited {
		def, hasDefault = outer, true
	}
	p.def, p.hasDefault = def, hasDefault
	flat := v.types&^isNull == isObject && len(c.declared(v)) > 0 && !c.isSecret(v, false) &&
		!c.hidesSecret(v) && !slices.ContainsFunc(v.chain, func(s *jsonschema.Schema) bool { return slices.Contains(at.stack, s) })
	if flat {
		if _, ok := c.text(v, keyEnv); ok {
			c.fail(key, "%s is for a field with one value: give it to the properties of this object", keyEnv)
		}
		defaults, _ := def.(map[string]any)
		p.object = c.object(v, location{
			path: p.path, key: key, closed: at.closed, complexity: string(p.field.Complexity), defaults: defaults,
			required: p.field.Required || at.required && defaults != nil,
			stack:    append(slices.Clone(at.stack), v.chain...),
		})
	} else {
		c.leaf(p, v)
	}
	if p.object != nil && !p.hasDefault && !at.closed && v.types == isObject {
		p.impliedDefault(v)
	}
	if !p.implied {
		c.checkDefault(p, list, inherited)
	}
	if _, taken := c.out.byKey[key]; taken {
		c.fail(key, "two properties have this key: a nested one and one with a dot in its name")
	}
	if p.object == nil {
		c.out.byKey[key] = p
		c.out.leaves = append(c.out.leaves, p)
	}
	return p
}

// relatesMembers reports whether the presence of one member can rule out that of
// another, or the number of members matters.
func relatesMembers(s *jsonschema.Schema) bool {
	return len(s.AnyOf)+len(s.OneOf)+len(s.DependentRequired)+len(s.DependentSchemas)+len(s.Dependencies) > 0 ||
		s.Not != nil || s.If != nil || s.MinProperties != nil || s.MaxProperties != nil
}

// impliedDefault gives an object without a default that of its properties, when it is
// valid with nothing else: an object that is absent, or that only a secret makes, then
// has their defaults. One that may be null, or that requires a value, stays absent.
// Each default is checked by itself, so that only what is required is left to check.
func (p *prop) impliedDefault(v mergedSchema) {
	def := map[string]any{}
	for _, name := range p.object.names {
		if sub := p.object.props[name]; sub != nil && sub.hasDefault { // nil: too many fields
			def[name] = sub.def
		}
	}
	for _, s := range v.chain {
		if relatesMembers(s) || s.Enum != nil || s.Const != nil || s.PropertyNames != nil || s.PatternProperties != nil {
			return
		}
		for _, name := range s.Required {
			sub := p.object.props[name]
			if _, ok := def[name]; !ok && (sub == nil || !sub.isSecret()) {
				return
			}
		}
	}
	if len(def) > 0 {
		p.def, p.hasDefault, p.implied = def, true, true
	}
}

// annotate sets the texts of the field for its readers.
func (c *compiler) annotate(p *prop, v mergedSchema, at location) {
	f := &p.field
	f.Description, _ = c.text(v, "description")
	if f.Description == "" {
		f.Description, _ = c.text(v, "title")
	}
	f.HelpText, _ = c.text(v, keyHelp)
	complexity, ok := c.text(v, keyComplexity)
	if !ok {
		complexity = at.complexity
	}
	f.Complexity = conf.Complexity(complexity)
	if f.Complexity == "" {
		f.Complexity = conf.Simple
	}
}

// leaf sets the type and the limits of a field.
func (c *compiler) leaf(p *prop, v mergedSchema) {
	f := &p.field
	source, hasSource := c.text(v, keySecretSource)
	env, hasEnv := c.text(v, keyEnv)
	if c.isSecret(v, true) {
		if v.types&isString == 0 {
			f.JSONTypes = v.types.names()
		}
		f.Type, f.IsSecret = conf.TypeSecret, true
		src := conf.SourceDatabase
		if hasSource {
			src = conf.Source(source)
		}
		f.SecretSource = &src
		switch {
		case src == conf.SourceEnv && hasEnv:
			f.Env = env
		case src == conf.SourceEnv:
			f.Env = conf.VariableName(f.Key)
		case hasEnv:
			c.fail(f.Key, "%s is for a secret from the environment: add %s: env", keyEnv, keySecretSource)
		}
		return
	}
	if hasSource {
		c.fail(f.Key, "%s is for secrets: add %s: true; any other field needs %s only", keySecretSource, keySecret, keyEnv)
	}
	f.Env = env
	values, enum := c.allowed(v)
	for _, val := range values {
		switch val := val.(type) {
		case nil:
		case string:
			f.Allowed = append(f.Allowed, val)
		default:
			f.Allowed = append(f.Allowed, jsonText(val))
		}
	}
	format, _ := c.text(v, "format")
	path := format == "path" || format == "file-path" || format == "directory-path"
	f.Type, f.JSONTypes = leafType(v.types, enum, path)
	if v.types&isNumber != 0 {
		p.bounds = c.boundsOf(v)
		f.Min, f.Max = p.bounds.min, p.bounds.max
	}
	if pat, ok := c.text(v, "pattern"); ok {
		f.Pattern = &pat
	}
}

// checkDefault checks the default of a property and completes it.
func (c *compiler) checkDefault(p *prop, list []*jsonschema.Schema, inherited bool) {
	if p.isSecret() {
		p.checks = list
		// In the second pass it is no longer in `required`.
		c.requiredSecrets[p.field.Key] = c.requiredSecrets[p.field.Key] || p.field.Required
		p.field.Required = c.requiredSecrets[p.field.Key]
	}
	if !p.hasDefault {
		return
	}
	if p.isSecret() {
		if !isMasked(p.def) {
			c.fail(p.field.Key, "a secret cannot have a default: every reader of the schema can see it")
		}
		p.def, p.hasDefault = nil, false
		return
	}
	p.field.Required = false
	if p.object != nil {
		if m, ok := p.def.(map[string]any); ok {
			for key := range p.object.exposedSecrets(m) {
				c.fail(key, "a secret cannot have a default: every reader of the schema can see it")
			}
			p.def = p.object.applyDefaults(m)
		}
	}
	if p.object == nil {
		p.field.Default = json.RawMessage(jsonText(p.def))
	}
	// The default of an enclosing object is checked there, and that of the whole
	// document here: it need not have what is required. After a removal of secrets
	// from `required`, the second pass checks.
	if inherited && len(p.path) > 1 || c.droppedRequired {
		return
	}
	x := explainer{doc: p.def, own: p}
	e := measure(p.def, c.out.unique)
	c.checkedDefaults.size += e.size
	if why := checkExtent(extent{c.checkedDefaults.size, e.depth + len(p.path)}, c.out.costs); why != "" {
		c.fail(p.field.Key, "default %s", why)
		return
	}
	for _, s := range list {
		x.run(s)
	}
	for _, e := range x.details() {
		c.fail(e.Key, "default %s", e.Message)
	}
}

// isMasked reports whether a default reveals no secret: it is empty, or the mask
// that Pydantic writes for the default of a SecretStr.
func isMasked(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return strings.Trim(v, "*") == ""
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !isMasked(e) })
	case map[string]any:
		return len(v) == 0
	default:
		return false
	}
}

// exposedSecrets returns the keys of secrets that the default of an object reveals.
func (o *object) exposedSecrets(m map[string]any) map[string]bool {
	out := map[string]bool{}
	for name, v := range m {
		p := o.props[name]
		switch sub, _ := v.(map[string]any); {
		case p == nil:
		case p.isSecret() && !isMasked(v):
			out[p.field.Key] = true
		case p.object != nil:
			maps.Copy(out, p.object.exposedSecrets(sub))
		}
	}
	return out
}

// dropRequired removes the names of secrets from every `required` list that applies,
// because the effective document never contains a secret.
func (c *compiler) dropRequired(v mergedSchema, names []string) {
	seen := map[*jsonschema.Schema]bool{}
	var visit func(s *jsonschema.Schema)
	visit = func(s *jsonschema.Schema) {
		if seen[s] {
			return
		}
		seen[s] = true
		raw := c.raw(s)
		c.removeNames(raw, "required", names)
		for _, k := range []string{"dependentRequired", "dependencies"} {
			m, _ := raw[k].(map[string]any)
			for name := range m {
				c.removeNames(m, name, names)
			}
		}
		eachInPlace(s, visit)
	}
	for _, s := range v.chain {
		visit(s)
	}
}

// removeNames removes names from the list that is member k of m.
func (c *compiler) removeNames(m map[string]any, k string, names []string) {
	list, ok := m[k].([]any)
	if !ok {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(list), func(e any) bool {
		s, ok := e.(string)
		return ok && slices.Contains(names, s)
	})
	if len(kept) < len(list) {
		m[k] = kept
		c.droppedRequired = true
	}
}
