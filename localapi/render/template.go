package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	maxOutput       = 16 << 20
	templateTimeout = 10 * time.Second
)

// null is a JSON null in a template: it prints as nothing, is false, and is null again in
// toJSON. An untyped nil would print as <no value>.
type null struct{}

func (*null) String() string { return "" }

// forTemplate turns a document into what templates compute with: integers and floats in
// place of literals.
func forTemplate(v any) any {
	switch v := v.(type) {
	case nil:
		return (*null)(nil)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, sub := range v {
			out[k] = forTemplate(sub)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, sub := range v {
			out[i] = forTemplate(sub)
		}
		return out
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			return f
		}
		return v // more than 64 bits: it prints as it is
	default:
		return v
	}
}

// inTemplate executes the template. Its dot is the values of the service, or with services
// an object with those of each.
func (t *target) inTemplate(r reading, single bool) ([]byte, error) {
	all := map[string]any{}
	var dot any = all
	for service, values := range r {
		all[service] = forTemplate(values)
		if single {
			dot = all[service]
		}
	}
	tmpl, err := t.template.Clone()
	if err != nil {
		return nil, err
	}
	out := &bounded{until: time.Now().Add(templateTimeout)}
	if err := tmpl.Funcs(functions(r)).Execute(out, dot); err != nil {
		if errors.Is(err, errTooLarge) || errors.Is(err, errTooLong) {
			return nil, conf.Errorf(conf.CodeTooLarge, "%s: %w", tmpl.Name(), err)
		}
		return nil, t.templateError(err)
	}
	return out.Bytes(), nil
}

var (
	errTooLarge = errors.New("the result is over 16 MiB")
	errTooLong  = errors.New("it has not ended in 10 s")
)

// bounded is a buffer that a template cannot fill without end.
type bounded struct {
	bytes.Buffer
	until time.Time
}

func (b *bounded) Write(p []byte) (int, error) {
	switch {
	case b.Len()+len(p) > maxOutput:
		return 0, errTooLarge
	case time.Now().After(b.until):
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}

var missingKey = regexp.MustCompile(`map has no entry for key "[^"]*"$`)

// templateError is the error of an execution. Its text is "template: NAME:LINE:COLUMN:
// executing NAME at <EXPRESSION>: REASON". The reason may quote a value: with secrets it is
// left out, unless it names a field that the template asks for.
func (t *target) templateError(err error) error {
	text := strings.TrimPrefix(err.Error(), "template: ")
	e := conf.Errorf(conf.CodeInvalid, "%s", text)
	switch where, _, found := strings.Cut(text, ">: "); {
	case missingKey.MatchString(text):
		e = e.WithHint("use keyOrDefault, or: with and if on a key that may be missing")
	case t.secret && found:
		return conf.Errorf(conf.CodeInvalid, "%s>", where).WithHint("the reason is not shown, because the group has secrets")
	case t.secret:
		return conf.Errorf(conf.CodeInvalid, "the template fails").WithHint("the reason is not shown, because the group has secrets")
	}
	var quoted *conf.Error
	if errors.As(err, &quoted) && quoted.Hint != "" {
		e = e.WithHint("%s", quoted.Hint)
	}
	return e
}

// find returns the value of SERVICE/KEY.
func (r reading) find(path string) (any, error) {
	service, key, ok := strings.Cut(path, "/")
	doc, known := r[service]
	switch {
	case !ok || key == "":
		return nil, usage("%q is no path", path).WithHint("write it as SERVICE/KEY")
	case !known:
		return nil, usage("%s is not among the services of the group", service).WithHint("add it to services")
	}
	v, ok := conf.Lookup(doc, key)
	if !ok {
		return nil, conf.Errorf(conf.CodeNotFound, "%s has no key %s", service, key).WithHint("use keyOrDefault or keyExists for a key that may be missing")
	}
	return v, nil
}

// list returns the pairs of ls and tree: of SERVICE or SERVICE/KEY, with the keys below it.
func (r reading) list(path string, deep bool) ([]pair, error) {
	service, key, _ := strings.Cut(path, "/")
	doc, known := r[service]
	if !known {
		return nil, usage("%s is not among the services of the group", service).WithHint("add it to services")
	}
	if key != "" {
		v, err := r.find(path)
		if err != nil {
			return nil, err
		}
		if doc, known = v.(map[string]any); !known {
			return nil, usage("%s is no object", path).WithHint("use key for a single value")
		}
	}
	var out []pair
	add := func(key string, v any) error {
		text, err := rawText(v)
		out = append(out, pair{key, text})
		return err
	}
	if deep {
		err := leaves(doc, "", add)
		return out, err
	}
	for _, k := range conf.SortedKeys(doc) {
		if _, object := doc[k].(map[string]any); object {
			continue
		}
		if err := add(k, doc[k]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pair is an element of ls and tree.
type pair struct{ Key, Value string }

func quoteless(err error) error {
	var n *strconv.NumError
	if errors.As(err, &n) {
		return errors.New("it is none")
	}
	return err
}
