package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Route is one row of the table of routes.
type Route struct {
	Name    string // the operationId of the OpenAPI document
	Method  string
	Path    string    // with :name for a parameter
	Role    conf.Role // required; "" for a route that is open without a token
	Summary string
	Query   []string // the parameters that the route has; any other is rejected

	handle   func(*call) (reply, error)
	body     int      // most bytes of the body; 0 for a route without one
	optional bool     // the body may be empty
	types    []string // content types beside application/json
	update   bool     // answers with the seed's ConfigUpdateResponse
	match    bool     // has If-Match
	audit    bool     // a success is a "read" in the access log
	long     bool     // runs to its end, also when the caller disconnects
	writes   bool     // changes something: the leader does it
	free     bool     // answered from memory, the same for every caller: not queued
	streams  bool     // answers for as long as the caller stays: a relay does it itself
	asks     bool     // of what the leader alone knows: answered here only while there is none
	here     bool     // is about this agent itself: forwarded by a relay only
}

// Names of routes for code that forwards requests; see TargetOf.
const (
	RouteRemoveMember   = "removeMember"
	RouteCreateAPIToken = "createAPIToken"
	RouteRevokeAPIToken = "revokeAPIToken"
	RouteListAPITokens  = "listAPITokens"
	RouteLeaveCluster   = "leaveCluster"
	RoutePutSchema      = "putSchema"
)

const (
	consistentParam = "consistent"

	envelope     = 16 << 10 // room that a body has beside the document in it
	documentBody = conf.MaxDocument + envelope
	schemaBody   = documentBody + conf.MaxSchema
	smallBody    = 64 << 10
)

// A room is one part of the API. The handler has nothing but its routes.
type room interface{ routes() []Route }

// rooms are all parts of the API. A new part is one row here.
func rooms(o *Options, a *admission) []room {
	ids := requestIDs(o.RequestKeys)
	edits := &edits{editor: o.Editor, reader: o.Reader, rollouts: o.Rollouts, ids: ids}
	sessions := newSessionRoom(o, a)
	return []room{
		&statusRoom{o.Health, o.Rebuilder, a},
		sessions,
		&eventRoom{sessions, o.Events},
		callerRoom{},
		&serviceRoom{edits, o.Versions, o.Secrets},
		&rolloutRoom{edits},
		&secretRoom{edits, o.Secrets},
		&historyRoom{o.Queries},
		&schemaRoom{o.Schemas, o.Editor, ids},
		&profileRoom{o.Profiles, o.ProfileEditor, ids},
		&accessRoom{o.Queries},
		&apiTokenRoom{o.APITokens},
		&keyRoom{o.Keys},
		&backupRoom{o.Backups},
		&clusterRoom{o.Cluster},
		&instanceRoom{o.Instances},
	}
}

func routesOf(rooms []room) (all []Route) {
	for _, r := range rooms {
		all = append(all, r.routes()...)
	}
	for i := range all {
		if r := &all[i]; r.update {
			r.Query = append(slices.Clip(r.Query), strictParam)
		}
	}
	return all
}

// Routes is the table of routes: all that the API answers.
func Routes() []Route { return routesOf(rooms(&Options{}, &admission{})) }

// unsupported makes all routes of a room without a backend answer with err.
func unsupported(routes []Route, err error) []Route {
	for i := range routes {
		routes[i].handle = failing(err)
	}
	return routes
}

func failing(err error) func(*call) (reply, error) {
	return func(*call) (reply, error) { return reply{}, err }
}

// decoded is a handler with the decoded body of the request; an empty body, where
// the route allows it, is the zero value.
func decoded[T any](handle func(*call, T) (reply, error)) func(*call) (reply, error) {
	return func(c *call) (reply, error) {
		var in T
		if len(c.body) > 0 {
			if err := conf.DecodeStrict(c.body, len(c.body), &in); err != nil {
				return reply{}, err
			}
		}
		return handle(c, in)
	}
}

// reply is a response: a body to encode, or raw bytes.
type reply struct {
	status int // 0 is 200
	header http.Header
	body   any
	raw    []byte
	gone   bool                                     // nothing is sent: the client did not wait
	stream func(http.ResponseWriter, *http.Request) // sends the body itself, for as long as it takes
}

// answer is a response with a value, unless there was an error.
func answer[T any](v T, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	return reply{body: v}, nil
}

// listed is a response with one member, a list that is never null.
func listed[T any](member string, list []T, err error) (reply, error) {
	if list == nil {
		list = []T{}
	}
	return answer(map[string][]T{member: list}, err)
}

type doneResponse struct {
	Success bool `json:"success"`
}

// done is the response to a change that has no result.
func done(err error) (reply, error) { return answer(doneResponse{Success: true}, err) }

// Target is what a request in a Handler is about.
type Target struct {
	Route   string // its name
	Service string // that the path names, else ""
	Node    string // that the path names, else ""
}

type targetKey struct{}

// TargetOf returns the target of a request by the context that a Forwarder gets.
func TargetOf(ctx context.Context) Target {
	t, _ := ctx.Value(targetKey{}).(Target)
	return t
}
