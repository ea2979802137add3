package schema

import (
	"fmt"
	"maps"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema/pattern"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of the work of a validation. One step takes about a microsecond.
const (
	maxWork   = 10000   // steps for one place in a document
	maxBudget = 5000000 // steps for a document
	minDepth  = 4       // a schema must allow documents at least this deep
)

// costError names a subschema that takes too much work.
type costError struct{ at, text string }

// costs returns, for each depth of a document, the maximum of steps that one
// location in it and the path to it can take. The list ends where that exceeds
// maxWork: at conf.MaxDepth, except for schemas whose recursion branches on the
// same value, such as a union of models that contain it, where each level doubles
// the work.
func (g *graph) costs() ([]float64, *costError) {
	order, cycle := g.order()
	if cycle != nil {
		return nil, &costError{cycle.Location, "refers to itself without end"}
	}
	weights := make(map[*jsonschema.Schema]float64, len(order))
	for _, s := range order {
		weights[s] = weight(s)
	}
	var out []float64
	prev := map[*jsonschema.Schema]float64{}
	for d := range conf.MaxDepth + 1 {
		cur := make(map[*jsonschema.Schema]float64, len(order))
		for _, s := range order {
			work := weights[s] + g.children[s].work(prev)
			eachInPlace(s, func(c *jsonschema.Schema) { work += cur[c] })
			if work <= maxWork {
				cur[s] = work
				continue
			}
			if d <= minDepth {
				return nil, &costError{s.Location, fmt.Sprintf(
					"takes more than %d steps to check one value: use fewer references, alternatives or enumerated values", maxWork)}
			}
			return out, nil
		}
		out = append(out, cur[g.nodes[0]])
		if maps.Equal(cur, prev) { // as deep as it goes: more levels cost no more
			for len(out) <= conf.MaxDepth {
				out = append(out, cur[g.nodes[0]])
			}
			break
		}
		prev = cur
	}
	return out, nil
}

// weight counts the steps of one subschema by itself.
func weight(s *jsonschema.Schema) float64 {
	w := 1.0
	if s.Enum != nil {
		w += measure(s.Enum.Values, false).size
	}
	if s.Const != nil {
		w += measure(*s.Const, false).size
	}
	if p, ok := s.Pattern.(*pattern.Pattern); ok {
		w += p.Weight()
	}
	for re := range s.PatternProperties {
		if p, ok := re.(*pattern.Pattern); ok {
			w += p.Weight()
		}
	}
	return w
}

// work returns the maximum cost of one member or element.
func (b children) work(cost map[*jsonschema.Schema]float64) float64 {
	most := func(list []*jsonschema.Schema, floor float64) float64 {
		for _, s := range list {
			floor = max(floor, cost[s])
		}
		return floor
	}
	sum := func(list []*jsonschema.Schema) (n float64) {
		for _, s := range list {
			n += cost[s]
		}
		return n
	}
	return max(most(b.props, cost[b.rest])+sum(b.every), most(b.items, 0)+sum(b.everyItem))
}

// extent is the size of a value.
type extent struct {
	size  float64 // number of values; a long string counts as several
	depth int     // levels of arrays and objects
}

// measure returns the extent of v. Where elements must be unique, an array of
// containers counts by the square of its length: unequal ones can look alike.
func measure(v any, unique bool) extent {
	e := extent{size: 1}
	add := func(sub any) {
		s := measure(sub, unique)
		e.size += s.size
		e.depth = max(e.depth, s.depth)
	}
	switch v := v.(type) {
	case string:
		e.size += float64(len(v) / 64)
		return e
	case map[string]any:
		for k, sub := range v {
			e.size += float64(len(k) / 64)
			add(sub)
		}
	case []any:
		containers := 0.0
		for _, sub := range v {
			switch sub.(type) {
			case []any, map[string]any:
				containers++
			}
			add(sub)
		}
		if unique {
			e.size += containers * containers / 50
		}
	default:
		return e
	}
	e.depth++
	return e
}

// checkExtent returns why a value of that extent is not validated, "" if it is.
func checkExtent(e extent, costs []float64) string {
	if e.depth >= len(costs) {
		return fmt.Sprintf("nested %d levels deep: this schema allows %d", e.depth, len(costs)-1)
	}
	if steps := e.size * costs[e.depth]; steps > maxBudget {
		return fmt.Sprintf("too large to be checked against this schema: %.0f steps, at most %d", steps, maxBudget)
	}
	return ""
}
