package schema

import (
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// eachInPlace calls f for the subschemas that apply to the same value as s.
func eachInPlace(s *jsonschema.Schema, f func(*jsonschema.Schema)) {
	for _, one := range []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else} {
		if one != nil {
			f(one)
		}
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for _, one := range list {
			f(one)
		}
	}
	if len(s.DependentSchemas)+len(s.Dependencies) == 0 { // sorting nothing takes a third of a compilation
		return
	}
	for _, k := range conf.SortedKeys(s.DependentSchemas) {
		f(s.DependentSchemas[k])
	}
	for _, k := range conf.SortedKeys(s.Dependencies) {
		if one, ok := s.Dependencies[k].(*jsonschema.Schema); ok {
			f(one)
		}
	}
}

// children are the subschemas that apply to the contents of a value. To a member
// apply one of props or rest, and all of every; to an element one of items, and
// all of everyItem.
type children struct {
	props, every, items, everyItem []*jsonschema.Schema
	rest                           *jsonschema.Schema
}

func childrenOf(s *jsonschema.Schema) children {
	var b children
	for _, k := range conf.SortedKeys(s.Properties) {
		b.props = append(b.props, s.Properties[k])
	}
	for _, p := range s.PatternProperties {
		b.every = append(b.every, p)
	}
	for _, p := range []*jsonschema.Schema{s.UnevaluatedProperties, s.PropertyNames} {
		if p != nil {
			b.every = append(b.every, p)
		}
	}
	b.rest, _ = s.AdditionalProperties.(*jsonschema.Schema)
	b.items = append(b.items, s.PrefixItems...)
	if s.Items2020 != nil {
		b.items = append(b.items, s.Items2020)
	}
	switch it := s.Items.(type) {
	case *jsonschema.Schema:
		b.items = append(b.items, it)
	case []*jsonschema.Schema:
		b.items = append(b.items, it...)
	}
	if it, ok := s.AdditionalItems.(*jsonschema.Schema); ok {
		b.items = append(b.items, it)
	}
	for _, p := range []*jsonschema.Schema{s.Contains, s.UnevaluatedItems} {
		if p != nil {
			b.everyItem = append(b.everyItem, p)
		}
	}
	return b
}

func (b children) each(f func(*jsonschema.Schema)) {
	for _, list := range [][]*jsonschema.Schema{b.props, b.every, b.items, b.everyItem} {
		for _, s := range list {
			f(s)
		}
	}
	if b.rest != nil {
		f(b.rest)
	}
}

// graph contains every subschema that a compiled one can reach.
type graph struct {
	nodes    []*jsonschema.Schema
	children map[*jsonschema.Schema]children
}

func collect(root *jsonschema.Schema) *graph {
	g := &graph{children: map[*jsonschema.Schema]children{}}
	add := func(s *jsonschema.Schema) {
		if _, ok := g.children[s]; !ok {
			g.children[s] = childrenOf(s)
			g.nodes = append(g.nodes, s)
		}
	}
	add(root)
	for i := 0; i < len(g.nodes); i++ {
		eachInPlace(g.nodes[i], add)
		g.children[g.nodes[i]].each(add)
	}
	return g
}

// order returns the nodes so that each comes after those that apply to the same
// value, or a node that applies to its own value again.
func (g *graph) order() (order []*jsonschema.Schema, cycle *jsonschema.Schema) {
	const (
		open = iota + 1
		done
	)
	state := make(map[*jsonschema.Schema]int, len(g.nodes))
	var visit func(s *jsonschema.Schema)
	visit = func(s *jsonschema.Schema) {
		switch {
		case state[s] == open:
			cycle = s
			return
		case state[s] == done || cycle != nil:
			return
		}
		state[s] = open
		eachInPlace(s, visit)
		state[s] = done
		order = append(order, s)
	}
	for _, s := range g.nodes {
		visit(s)
	}
	return order, cycle
}

// findSecretNodes returns the subschemas whose value is a secret or contains one.
func (c *compiler) findSecretNodes(g *graph) map[*jsonschema.Schema]bool {
	parents := map[*jsonschema.Schema][]*jsonschema.Schema{}
	var found []*jsonschema.Schema
	secret := map[*jsonschema.Schema]bool{}
	public := map[*jsonschema.Schema]bool{}
	for _, s := range g.nodes {
		link := func(child *jsonschema.Schema) { parents[child] = append(parents[child], s) }
		eachInPlace(s, link)
		g.children[s].each(link)
		switch is, explicit := secretKeyword(c.raw(s)); {
		case is:
			secret[s] = true
			found = append(found, s)
		case explicit:
			public[s] = true
		}
	}
	for len(found) > 0 {
		s := found[0]
		found = found[1:]
		for _, p := range parents[s] {
			if !secret[p] && !public[p] {
				secret[p] = true
				found = append(found, p)
			}
		}
	}
	return secret
}

// secretKeyword reports whether the keywords of one subschema make its value a
// secret, and whether x-secret says so, which overrides the others.
func secretKeyword(raw map[string]any) (is, explicit bool) {
	if v, ok := raw[keySecret].(bool); ok {
		return v, true
	}
	return raw["writeOnly"] == true || raw["format"] == "password", false
}
