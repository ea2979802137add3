package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// router finds routes. It never answers by itself, so that nothing is redirected
// and nothing is disclosed before the caller is admitted.
type router struct {
	tree    *httprouter.Router
	methods []string // of all routes
}

// found carries a route out of the handle that httprouter looks up.
type found struct {
	http.ResponseWriter
	route *Route
}

func newRouter(routes []Route) *router {
	t := &router{tree: httprouter.New()}
	for i := range routes {
		route := &routes[i]
		t.tree.Handle(route.Method, route.Path, func(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
			w.(*found).route = route
		})
		if !slices.Contains(t.methods, route.Method) {
			t.methods = append(t.methods, route.Method)
		}
	}
	return t
}

// find returns the route of a request; nil when the table does not have it.
func (t *router) find(r *http.Request) (*Route, httprouter.Params) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return t.lookup(method, pathOf(r))
}

func (t *router) lookup(method, path string) (*Route, httprouter.Params) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil
	}
	handle, params, _ := t.tree.Lookup(method, path)
	if handle == nil {
		return nil, nil
	}
	var f found
	handle(&f, nil, nil)
	return f.route, params
}

// pathOf is the path to look up. An escaped slash in a name is a separator in
// URL.Path, and would lead to another route: such a path has none.
func pathOf(r *http.Request) string {
	if strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		return ""
	}
	return r.URL.Path
}

// unrouted is the error of a path or method that the table does not have.
func (t *router) unrouted(r *http.Request) error {
	path := pathOf(r)
	var allow []string
	for _, m := range t.methods {
		if route, _ := t.lookup(m, path); route == nil {
			continue
		}
		allow = append(allow, m)
		if m == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	if allow != nil {
		slices.Sort(allow)
		list := strings.Join(allow, ", ")
		return &httpError{
			err:    conf.Errorf(conf.CodeMethod, "method %q is not allowed here", conf.Clip(r.Method)).WithHint("use one of %s", list),
			header: http.Header{"Allow": {list}},
		}
	}
	e := conf.Errorf(conf.CodeNotFound, "no such route")
	if route, _ := t.lookup(http.MethodGet, strings.TrimRight(path, "/")); route != nil {
		return e.WithHint("leave out the slash at the end")
	}
	return e.WithHint("GET /openapi.json lists all routes")
}
