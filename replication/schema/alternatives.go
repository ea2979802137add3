package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// addAlternatives adds one sentence about a value that fits none of several
// alternatives: what is wrong with the intended one, if that can be found out.
func (x *explainer) addAlternatives(e *jsonschema.ValidationError) {
	loc := e.InstanceLocation
	var near [][]finding
	var want []string
	for _, c := range e.Causes {
		sub := explainer{doc: x.doc, root: x.root, own: x.own, known: x.known, meta: x.meta}
		sub.visit(c)
		sortFindings(sub.found)
		if len(sub.found) == 1 && len(sub.found[0].loc) == len(loc) {
			if k, ok := sub.found[0].kind.(*kind.Type); ok {
				want = append(want, k.Want...)
				continue
			}
		}
		if len(sub.found) > 0 {
			near = append(near, sub.found)
		}
	}
	if len(near) == 0 {
		slices.SortStableFunc(want, func(a, b string) int { return cmp.Compare(btoi(a == "null"), btoi(b == "null")) })
		x.addKind(loc, &kind.Type{Want: slices.Compact(want)})
		return
	}
	near = byDiscriminator(near, len(loc))
	if len(near) == 1 {
		x.found = append(x.found, near[0]...)
		return
	}
	if at, values, ok := mergeEnums(near); ok {
		x.addKind(at, &kind.Enum{Want: values})
		return
	}
	var ways []string
	for _, fs := range near {
		way := x.relative(fs[0], len(loc))
		if !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	if len(ways) > 4 {
		ways = append(ways[:4], fmt.Sprintf("%d more", len(ways)-4))
	}
	x.add(loc, e.ErrorKind, "fits none of the alternatives: "+strings.Join(ways, "; or "), "")
}

// byDiscriminator leaves out the alternatives whose discriminator does not match.
func byDiscriminator(near [][]finding, depth int) [][]finding {
	kept := slices.DeleteFunc(slices.Clone(near), func(fs []finding) bool {
		return slices.ContainsFunc(fs, func(f finding) bool {
			_, isConst := f.kind.(*kind.Const)
			_, isEnum := f.kind.(*kind.Enum)
			return len(f.loc) == depth+1 && (isConst || isEnum)
		})
	})
	if len(kept) == 0 {
		return near
	}
	return kept
}

// mergeEnums merges alternatives that each require certain values at one location.
func mergeEnums(near [][]finding) (at []string, values []any, ok bool) {
	for _, fs := range near {
		i := slices.IndexFunc(fs, func(f finding) bool {
			switch f.kind.(type) {
			case *kind.Const, *kind.Enum:
				return at == nil || slices.Equal(f.loc, at)
			}
			return false
		})
		if i < 0 {
			return nil, nil, false
		}
		at = fs[i].loc
		switch k := fs[i].kind.(type) {
		case *kind.Const:
			values = append(values, k.Want)
		case *kind.Enum:
			values = append(values, k.Want...)
		}
	}
	return at, values, true
}

func (x *explainer) relative(f finding, depth int) string {
	if len(f.loc) > depth {
		return suffix(f.loc[depth:]) + " " + f.text
	}
	return f.text
}
