package schema

import (
	"cmp"
	"slices"

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
