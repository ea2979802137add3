package localapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// derivedForms are the single keys and the environment of a document. They are
// made at the first use: most documents are only read whole, and applying a change
// must not pay for the rest.
type derivedForms struct {
	config []byte
	doc    *Document     // that they are of; nil in tests
	built  atomic.Bool   // values and names are there
	public *derivedForms // without secrets, of the same version; nil when there are none

	once   sync.Once
	err    error
	values map[string]*value
	names  []string // the keys of values, parents before children
	vars   []variable
	env    representation
}

// value is one key of a document.
type value struct {
	json representation
	raw  representation
	read readMark // a service has it
}

// get makes the forms once and returns them.
func (d *derivedForms) get() *derivedForms {
	d.once.Do(d.build)
	return d
}

func (d *derivedForms) build() {
	doc, err := conf.ParseObject(d.config, len(d.config))
	if err != nil {
		d.err = err
		return
	}
	d.values = map[string]*value{}
	d.walk(doc, "", doc)
	d.vars = variables(d)
	d.env = newRepresentation([]byte(formatShell(d.vars, "")), typeText)
	if d.doc != nil {
		d.env.read = &d.doc.whole
	}
	d.built.Store(true)
	if d.public != nil {
		d.env.secret = !bytes.Equal(d.env.body, d.public.get().env.body)
	}
}

// walk adds the members of obj and all below them. Names that no request can
// have are left out; a name that two paths lead to has the value of conf.Lookup.
func (d *derivedForms) walk(doc map[string]any, prefix string, obj map[string]any) {
	for _, k := range conf.SortedKeys(obj) {
		name := prefix + k
		if k == "" || len(name) > conf.MaxKey {
			continue
		}
		if _, known := d.values[name]; !known {
			found, _ := conf.Lookup(doc, name)
			var public *value
			if d.public != nil {
				public = d.public.get().values[name]
			}
			d.values[name] = d.newValue(found, public)
			d.names = append(d.names, name)
		}
		if sub, ok := obj[k].(map[string]any); ok {
			d.walk(doc, name+".", sub)
		}
	}
}

// value returns the value of a key of a request, nil for none. One with quotes is rare:
// its value is made for each request.
func (d *derivedForms) value(key string) *value {
	if v := d.values[key]; v != nil {
		return v
	}
	p, ok := conf.ParseQuoted(key)
	if !ok {
		return nil
	}
	doc, err := conf.ParseObject(d.config, len(d.config))
	if err != nil {
		return nil
	}
	found, ok := p.Find(doc)
	if !ok {
		return nil
	}
	var public *value
	if d.public != nil {
		public = d.public.get().value(key)
	}
	return d.newValue(found, public)
}

// newValue returns the forms of a value; public is what callers without proof see of it.
func (d *derivedForms) newValue(v any, public *value) *value {
	text := encode(v)
	out := &value{json: newRepresentation(text, typeJSON), raw: newRepresentation(rawText(v, text), typeText)}
	out.json.read, out.raw.read = &out.read, &out.read
	if d.doc != nil {
		out.read.any = &d.doc.someRead
	}
	if d.public != nil {
		secret := public == nil || !bytes.Equal(public.json.body, text)
		out.json.secret, out.raw.secret = secret, secret
	}
	return out
}

// rawText is a value for a shell: strings without quotes, null as nothing, the
// rest as JSON.
func rawText(v any, text []byte) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{}
	case string:
		return []byte(v)
	case json.Number:
		return []byte(v.String())
	default:
		return text
	}
}

func newRepresentation(body []byte, contentType []string) representation {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return representation{
		body: body, tag: tag, etag: []string{tag},
		length: []string{strconv.Itoa(len(body))}, contentType: contentType,
	}
}
