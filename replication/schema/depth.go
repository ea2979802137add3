package schema

import (
	"fmt"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// usualDepth is as deep as a document has to be allowed when the schema declares more.
const usualDepth = 8

// declaredDepth returns the levels of objects and arrays that the schema declares, an
// endless recursion as one of it.
func (g *graph) declaredDepth() int {
	depth := make(map[*jsonschema.Schema]int, len(g.nodes))
	open := map[*jsonschema.Schema]bool{}
	var visit func(s *jsonschema.Schema) int
	visit = func(s *jsonschema.Schema) int {
		if d, done := depth[s]; done || open[s] {
			return d
		}
		open[s] = true
		d := 0
		g.children[s].each(func(c *jsonschema.Schema) { d = max(d, 1+visit(c)) })
		eachInPlace(s, func(c *jsonschema.Schema) { d = max(d, visit(c)) })
		delete(open, s)
		depth[s] = d
		return d
	}
	return visit(g.nodes[0])
}

// checkDepth rejects a schema that is about to be stored when the work of checking a
// document lets it be less deep than its own declarations: real documents would be
// rejected.
func (s *Schema) checkDepth() error {
	allowed := len(s.costs) - 1
	if need := min(s.declared, usualDepth); allowed < need {
		return invalid(s.service, []conf.FieldError{{Key: "(schema)", Message: fmt.Sprintf(
			"declares documents %d levels deep, but takes too many steps to check more than %d: "+
				"use fewer alternatives (anyOf, oneOf) that contain each other", s.declared, allowed)}})
	}
	return nil
}
