package schema

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Items returns the fields that an effective document has a value for, and its
// undeclared members, sorted by key. A nested object that is null is an item of its
// own. Secrets are left out.
func (s *Schema) Items(service string, config map[string]any) []conf.Item {
	it := itemizer{service: service, byKey: s.byKey, seen: make(map[string]bool, len(s.leaves))}
	it.object(s.root, config, "")
	return it.sorted()
}

// Infer returns the items of a document without a schema: one a member, each with
// the type of its value.
func Infer(service string, config map[string]any) []conf.Item {
	it := itemizer{service: service, seen: make(map[string]bool, len(config))}
	for name, v := range config {
		it.extra(name, v)
	}
	return it.sorted()
}

type itemizer struct {
	service string
	byKey   map[string]*prop
	seen    map[string]bool
	items   []conf.Item
}

func (it *itemizer) object(o *object, doc map[string]any, prefix string) {
	for _, name := range o.names {
		p := o.props[name]
		v, ok := doc[name]
		if !ok || p.isSecret() {
			continue
		}
		sub, isObject := v.(map[string]any)
		switch {
		case p.object == nil || !isObject:
			it.put(conf.Item{
				Key: p.field.Key, ValueJSON: jsonText(v), Type: cmp.Or(p.field.Type, conf.TypeString),
				Complexity: p.field.Complexity, Description: p.field.Description, HelpText: p.field.HelpText,
			})
		default:
			it.object(p.object, sub, p.field.Key+".")
		}
	}
	for _, name := range conf.SortedKeys(doc) {
		if o.props[name] == nil && it.byKey[prefix+name] == nil {
			it.extra(prefix+name, doc[name])
		}
	}
}

func (it *itemizer) extra(key string, v any) {
	it.put(conf.Item{Key: key, ValueJSON: jsonText(v), Type: typeOfValue(v), Complexity: conf.Simple})
}

// put adds the first item of a key: the store allows no second.
func (it *itemizer) put(item conf.Item) {
	if it.seen[item.Key] {
		return
	}
	it.seen[item.Key] = true
	item.Service = it.service
	it.items = append(it.items, item)
}

func (it *itemizer) sorted() []conf.Item {
	slices.SortFunc(it.items, func(a, b conf.Item) int { return cmp.Compare(a.Key, b.Key) })
	return it.items
}

// typeOfValue returns the type of a value that no schema describes.
func typeOfValue(v any) conf.Type {
	switch typeOf(v) {
	case isBool:
		return conf.TypeBoolean
	case isInt:
		return conf.TypeInteger
	case isFraction:
		return conf.TypeFloat
	default:
		return conf.TypeString
	}
}

// ModelHash returns the hex SHA-256 of the RFC 8785 form of {service: schema, ...}.
// The schemas must be in RFC 8785 form; service names sort by their bytes.
func ModelHash(schemas map[string][]byte) string {
	h := sha256.New()
	h.Write([]byte("{"))
	for i, service := range conf.SortedKeys(schemas) {
		if i > 0 {
			h.Write([]byte(","))
		}
		h.Write([]byte(jsonText(service)))
		h.Write([]byte(":"))
		h.Write(schemas[service])
	}
	h.Write([]byte("}"))
	return hex.EncodeToString(h.Sum(nil))
}

// Cache caches the compiled schema of the newest text for each service. Its zero
// value is not usable; call NewCache.
type Cache struct {
	mu      sync.RWMutex
	entries map[string]*entry
}

// entry is one text of a schema. The first caller compiles it; the others wait.
type entry struct {
	raw    []byte
	once   sync.Once
	schema *Schema
	err    error
	memory atomic.Int64 // of the patterns, once it is compiled
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{entries: map[string]*entry{}} }

// Get returns the compiled schema of a service. Errors are cached too: a rejected
// text is rejected again without work.
func (c *Cache) Get(service string, raw []byte) (*Schema, error) {
	c.mu.RLock()
	e := c.entries[service]
	c.mu.RUnlock()
	if e == nil || !bytes.Equal(e.raw, raw) {
		e = c.replace(service, raw)
	}
	e.once.Do(func() {
		if e.schema, e.err = Compile(service, e.raw); e.err == nil {
			e.memory.Store(int64(e.schema.patternMemory))
		}
	})
	return e.schema, e.err
}

func (c *Cache) replace(service string, raw []byte) *entry {
	if len(raw) > conf.MaxSchema || conf.CheckService(service) != nil {
		return &entry{raw: raw} // Compile rejects it at once
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[service]; e != nil && bytes.Equal(e.raw, raw) {
		return e
	}
	e := &entry{raw: bytes.Clone(raw)}
	c.entries[service] = e
	return e
}

// Admit is Get for a schema that is about to be stored. It returns an error, and
// forgets the schema, when its patterns and those of the other services that this
// process has compiled take more memory than all may. What is stored is never
// refused: Get has no such limit.
func (c *Cache) Admit(service string, raw []byte) (*Schema, error) {
	s, err := c.Get(service, raw)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fits(service, s); err != nil {
		if e := c.entries[service]; e != nil && bytes.Equal(e.raw, raw) {
			delete(c.entries, service)
		}
		return nil, err
	}
	return s, nil
}

// Check returns what Admit would, and keeps nothing: a caller that may read can ask for it.
func (c *Cache) Check(service string, raw []byte) (*Schema, error) {
	s, err := Compile(service, raw)
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return s, c.fits(service, s)
}

// fits returns an error when s, in place of the schema that the service has, takes too
// much memory, or work for documents as deep as its own. The caller holds c.mu.
func (c *Cache) fits(service string, s *Schema) error {
	if err := s.checkDepth(); err != nil {
		return err
	}
	total := s.patternMemory
	for name, e := range c.entries {
		if name != service {
			total += int(e.memory.Load())
		}
	}
	if total <= maxAllPatternMemory || s.patternMemory <= freePatternMemory {
		return nil
	}
	return conf.Errorf(conf.CodeInvalid, "schema of %s is rejected: its patterns take %s compiled, and with those of all other services %s, at most %s",
		service, mebibytes(s.patternMemory), mebibytes(total), mebibytes(maxAllPatternMemory)).
		WithHint("use fewer patterns, or smaller repetitions and classes; nothing was changed")
}

// Items returns the items of an effective document, by the schema of its service
// or, without one, by its values.
func (c *Cache) Items(service string, schema, config json.RawMessage) ([]conf.Item, error) {
	doc, err := conf.ParseObject(config, conf.MaxDocument)
	if err != nil {
		return nil, err
	}
	if len(schema) == 0 {
		return Infer(service, doc), nil
	}
	s, err := c.Get(service, schema)
	if err != nil {
		return nil, err
	}
	return s.Items(service, doc), nil
}
