package schema

import (
	"github.com/holdfast-config/holdfast/replication/conf"
)

// anyKeys is the value of x-keys that admits every safe name.
const anyKeys = "any"

// nameRule says which names the members of a document may have: the default one of
// this product, or with x-keys every name that is safe in a path, in a shell and in the
// keys of the APIs.
type nameRule struct{ any bool }

func ruleOf(doc map[string]any) nameRule { return nameRule{any: doc[keyKeys] == anyKeys} }

func (r nameRule) allows(name string) bool {
	if r.any {
		return conf.CheckAnyKey(name) == nil
	}
	return conf.CheckKey(name) == nil
}

func (r nameRule) String() string {
	if r.any {
		return "use letters, digits and _ - $, and dots between them"
	}
	return "use lower-case letters, digits and underscores, a letter first"
}

// wayOut tells how a schema admits a name that the default rule rejects.
func (r nameRule) wayOut(name string) string {
	if r.any || conf.CheckAnyKey(name) != nil {
		return ""
	}
	return `; or say "x-keys": "any" at the top of the schema`
}

// checkVariables rejects a schema in which two properties have one environment
// variable, for the names of x-keys: the default rule tells them apart but for dots and
// underscores.
func (c *compiler) checkVariables() {
	if !c.rule.any || c.out.root == nil {
		return
	}
	owner := map[string]string{}
	var visit func(o *object)
	visit = func(o *object) {
		for _, name := range o.names {
			p := o.props[name]
			if p == nil {
				continue
			}
			variable := conf.VariableName(p.field.Key)
			if had, taken := owner[variable]; taken {
				c.fail(p.field.Key, "has the environment variable of %s, which is %s: rename one of them", conf.Clip(had), conf.Clip(variable))
				continue
			}
			owner[variable] = p.field.Key
			if p.object != nil {
				visit(p.object)
			}
		}
	}
	visit(c.out.root)
}
