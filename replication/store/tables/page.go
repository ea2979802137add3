package tables

import "strings"

// Pages are bounded here as well as at the edge.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Window bounds the limit and the offset of a request.
func Window(limit, offset int) (int, int) {
	if limit <= 0 {
		limit = defaultLimit
	}
	return min(limit, maxLimit), max(offset, 0)
}

// Filter collects conditions and the arguments that they need.
type Filter struct {
	conds []string
	Args  []any
}

// Add adds a condition with one argument.
func (f *Filter) Add(cond string, arg any) {
	f.conds = append(f.conds, cond)
	f.Args = append(f.Args, arg)
}

// Where is the WHERE clause, "" without conditions.
func (f *Filter) Where() string {
	if f.conds == nil {
		return ""
	}
	return " WHERE " + strings.Join(f.conds, " AND ")
}
