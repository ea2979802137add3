package schema

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
	"github.com/holdfast-config/holdfast/replication/schema/pattern"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// base is the URL of every schema while it is compiled; nothing is loaded from it.
const base = "https://schema.invalid/schema.json"

// What a compiled schema takes in memory, about: for itself, for each subschema, and for
// each byte of its text (names, descriptions, defaults, words).
const (
	schemaMemory    = 4 << 10
	subschemaMemory = 2 << 10
	textMemory      = 6

	maxPatternMemory = 16 << 20 // of the patterns of one schema
)

// Compile compiles the JSON Schema of a service. An error is a *conf.Error that
// lists all faults of the schema in Details.
func Compile(service string, raw []byte) (s *Schema, err error) {
	if err := conf.CheckService(service); err != nil {
		return nil, err
	}
	doc, err := conf.ParseSchema(raw)
	if err != nil {
		return nil, err
	}
	dialect.Upgrade(doc)
	if path := findExtremeNumber(doc, nil); path != nil {
		return nil, invalid(service, []conf.FieldError{{Key: schemaKey(path), Message: numberRule}})
	}
	if path := dialect.FindInteger(doc, nil); path != nil {
		return nil, invalid(service, []conf.FieldError{{Key: schemaKey(path), Message: path[len(path)-1] + " is an integer beyond 2^53: make it a string"}})
	}
	sc := scanner{noCheck: doc[keyPattern] == unchecked, skipped: map[string]bool{}}
	sc.schema(doc, nil)
	if sc.count > maxSubschemas {
		sc.fail(nil, "more than %d subschemas", maxSubschemas)
	}
	if sc.memory > maxPatternMemory {
		sc.fail(nil, "its patterns take %s compiled, at most %s: use fewer of them, or smaller repetitions and classes",
			mebibytes(sc.memory), mebibytes(maxPatternMemory))
	}
	if sc.details != nil {
		return nil, invalid(service, sc.details)
	}
	c := &compiler{service: service, doc: doc, rule: ruleOf(doc), skipped: sc.skipped, requiredSecrets: map[string]bool{}}
	// The second pass compiles the document whose `required` lists have lost the secrets.
	for range 2 {
		if s, err = c.run(); err != nil {
			return nil, err
		}
		if !c.droppedRequired {
			break
		}
	}
	s.patternMemory = sc.memory
	s.memory = schemaMemory + subschemaMemory*sc.count + textMemory*len(raw) + sc.memory
	return s, nil
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// invalid returns the error of a rejected schema.
func invalid(service string, details []conf.FieldError) *conf.Error {
	slices.SortStableFunc(details, func(a, b conf.FieldError) int { return cmp.Compare(a.Key, b.Key) })
	first := details[0]
	e := conf.Errorf(conf.CodeInvalid, "schema of %s is rejected: %s: %s", service, first.Key, first.Message)
	if n := len(details) - 1; n > 0 {
		e.Message += fmt.Sprintf(" (and %d more)", n)
	}
	e.Details = details
	return e.WithHint("correct the schema and put it again; nothing was changed")
}

// compiler compiles one document. It owns doc and removes the secrets from its
// `required` lists.
type compiler struct {
	service         string
	doc             map[string]any
	rule            nameRule
	skipped         map[string]bool // see scanner
	droppedRequired bool
	requiredSecrets map[string]bool // secrets that were in a `required` list

	raws            map[*jsonschema.Schema]map[string]any
	types           map[*jsonschema.Schema]types
	secretNodes     map[*jsonschema.Schema]bool
	out             *Schema
	checkedDefaults extent // of the defaults that were checked
	details         []conf.FieldError
}

func (c *compiler) fail(key, format string, args ...any) {
	if len(c.details) < maxErrors {
		c.details = append(c.details, conf.FieldError{Key: conf.Clip(key), Message: fmt.Sprintf(format, args...)})
	}
}

func (c *compiler) run() (*Schema, error) {
	c.droppedRequired = false
	c.raws = map[*jsonschema.Schema]map[string]any{}
	c.types = map[*jsonschema.Schema]types{}
	sch, err := c.library()
	if err != nil {
		return nil, err
	}
	g := collect(sch)
	costs, tooCostly := g.costs()
	if tooCostly != nil {
		return nil, invalid(c.service, []conf.FieldError{{Key: schemaKey(pointer(tooCostly.at)), Message: tooCostly.text}})
	}
	c.secretNodes = c.findSecretNodes(g)
	c.out = &Schema{service: c.service, model: &model{
		rule: c.rule, validate: sch, fast: newFastValidator(sch, g.nodes), byKey: map[string]*prop{}, costs: costs, declared: g.declaredDepth(),
	}}
	boundIntegers(g.nodes)
	c.out.unique = slices.ContainsFunc(g.nodes, func(s *jsonschema.Schema) bool { return s.UniqueItems })
	c.checkedDefaults = extent{}
	c.rootObject(sch)
	c.checkVariables()
	if len(c.out.leaves) > MaxFields {
		c.fail("(schema)", "more than %d fields", MaxFields)
	}
	if c.details != nil {
		return nil, invalid(c.service, c.details)
	}
	slices.SortFunc(c.out.leaves, func(a, b *prop) int { return cmp.Compare(a.field.Key, b.field.Key) })
	return c.out, nil
}

// library compiles the document with the library, and translates its errors.
func (c *compiler) library() (sch *jsonschema.Schema, err error) {
	// A schema is untrusted input: a panic of the library must not end the process.
	defer func() {
		if r := recover(); r != nil {
			err = invalid(c.service, []conf.FieldError{{Key: "(schema)", Message: fmt.Sprintf("cannot be compiled: %v", r)}})
		}
	}()
	lib := jsonschema.NewCompiler()
	lib.DefaultDraft(jsonschema.Draft2020)
	lib.AssertFormat()
	registerFormats(lib)
	lib.UseRegexpEngine(func(source string) (jsonschema.Regexp, error) {
		if c.skipped[source] {
			return pattern.Any(source), nil
		}
		return pattern.Compile(source)
	})
	lib.UseLoader(noLoader{})
	if err := lib.AddResource(base, c.doc); err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "schema of %s: %w", c.service, err)
	}
	sch, err = lib.Compile(base)
	if err != nil {
		return nil, invalid(c.service, c.explain(err))
	}
	return sch, nil
}

type noLoader struct{}

var errRemote = errors.New("nothing is loaded from elsewhere")

func (noLoader) Load(string) (any, error) { return nil, errRemote }

// explain translates an error of the library about a schema.
func (c *compiler) explain(err error) []conf.FieldError {
	if se, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if ve, ok := errors.AsType[*jsonschema.ValidationError](se.Err); ok {
			return c.metaDetails(ve)
		}
	}
	if re, ok := errors.AsType[*jsonschema.InvalidRegexError](err); ok {
		return []conf.FieldError{{Key: schemaKey(pointer(re.URL)), Message: fmt.Sprintf("pattern %q: %v", conf.Clip(re.Regex), re.Err)}}
	}
	if nf, ok := errors.AsType[*jsonschema.JSONPointerNotFoundError](err); ok {
		return []conf.FieldError{{Key: "(schema)", Message: "$ref " + conf.Clip(strings.TrimPrefix(nf.URL, base)) + " leads nowhere in this document"}}
	}
	return []conf.FieldError{{Key: "(schema)", Message: conf.Clip(strings.ReplaceAll(err.Error(), base, ""))}}
}

// metaDetails translates the violations of the meta-schema.
func (c *compiler) metaDetails(ve *jsonschema.ValidationError) []conf.FieldError {
	x := explainer{doc: c.doc, meta: true}
	x.visit(ve)
	var out []conf.FieldError
	for _, f := range x.found {
		key, msg := schemaKey(f.loc), f.text
		if n := len(f.loc); n > 0 {
			msg = conf.Clip(f.loc[n-1]) + ": " + msg
		}
		if !slices.Contains(out, conf.FieldError{Key: key, Message: msg}) && len(out) < maxErrors {
			out = append(out, conf.FieldError{Key: key, Message: msg})
		}
	}
	return out
}

// pointer splits the location of a subschema into the tokens of its path.
func pointer(location string) []string {
	_, frag, _ := strings.Cut(location, "#")
	if frag == "" {
		return nil
	}
	toks := strings.Split(strings.TrimPrefix(frag, "/"), "/")
	for i, t := range toks {
		if u, err := url.PathUnescape(t); err == nil {
			t = u
		}
		toks[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return toks
}

// raw returns the source of a compiled subschema, for the keywords that the
// library does not retain. It is nil for a boolean schema.
func (c *compiler) raw(s *jsonschema.Schema) map[string]any {
	m, ok := c.raws[s]
	if !ok {
		m, _ = valueAt(c.doc, pointer(s.Location)).(map[string]any)
		c.raws[s] = m
	}
	return m
}
