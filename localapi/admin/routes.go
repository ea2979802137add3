package admin

import (
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Route is one row of the table of routes.
type Route struct {
	Method  string
	Path    string    // with :name for a parameter
	Role    conf.Role // needed; "" for a route that is open without a token
	Summary string
	Query   []string // the parameters that the route knows; any other is refused

	handle   func(*Handler, *call) (reply, error)
	body     int      // most bytes of the body; 0 for a route without one
	optional bool     // the body may be empty
	types    []string // content types beside application/json
	update   bool     // answers with the seed's ConfigUpdateResponse
	match    bool     // understands If-Match
	audit    bool     // a success is a "read" in the access log
	long     bool     // runs to its end, whatever becomes of the caller
	writes   bool     // changes something: the leader does it
	free     bool     // answered from memory, the same for everybody: not counted for its caller
	here     bool     // is about this agent itself, and never forwarded but by a relay
}

// envelope is the room that a body has beside the document in it.
const envelope = 16 << 10

// Routes is the table of routes: all that the API answers.
func Routes() []Route {
	const document = conf.MaxDocument + envelope
	const small = 64 << 10
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/config/health", Summary: "Health of this agent",
			handle: (*Handler).health, free: true,
		},
		{
			Method: http.MethodGet, Path: "/openapi.json", Summary: "This API as an OpenAPI 3.1 document",
			handle: (*Handler).openAPI, free: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/rebuild", Summary: "Rebuild the store with a new epoch; needs REBUILD_TOKEN in the body",
			handle: (*Handler).rebuild, body: small, optional: true, long: true,
		},
		{
			Method: http.MethodPost, Path: sessionPath, Summary: "Log a browser in; needs a token in the body, and answers with a cookie",
			handle: (*Handler).createSession, body: small,
		},
		{
			Method: http.MethodDelete, Path: sessionPath, Summary: "Log a browser out",
			handle: (*Handler).deleteSession,
		},
		{
			Method: http.MethodGet, Path: "/api/config/me", Role: conf.RoleRead, Summary: "Name and role of the caller",
			handle: (*Handler).me,
		},
		{
			Method: http.MethodGet, Path: "/api/config/services", Role: conf.RoleRead, Summary: "List the services",
			Query: []string{"consistent"}, handle: (*Handler).listServices,
		},
		{
			Method: http.MethodGet, Path: "/api/config/services/:service", Role: conf.RoleRead, Summary: "Read the configuration of a service",
			Query: []string{"values", "version", "explain", "consistent"}, handle: (*Handler).getService, audit: true,
		},
		{
			Method: http.MethodPut, Path: "/api/config/services/:service", Role: conf.RoleWrite, Summary: "Replace the stored values of a service",
			Query: []string{"reason"}, handle: (*Handler).putService, writes: true, body: document, update: true, match: true,
		},
		{
			Method: http.MethodPatch, Path: "/api/config/services/:service", Role: conf.RoleWrite, Summary: "Change some values of a service (JSON merge patch)",
			Query: []string{"version", "reason"}, handle: (*Handler).patchService, writes: true, body: conf.MaxDocument,
			types: []string{"application/merge-patch+json"}, update: true, match: true,
		},
		{
			Method: http.MethodDelete, Path: "/api/config/services/:service", Role: conf.RoleWrite, Summary: "Delete the configuration of a service",
			Query: []string{"version", "reason"}, handle: (*Handler).deleteService, writes: true, update: true, match: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/services/:service/validate", Role: conf.RoleRead, Summary: "Check a change without making it",
			handle: (*Handler).validateService, body: document,
		},
		{
			Method: http.MethodPost, Path: "/api/config/services/:service/restore", Role: conf.RoleWrite, Summary: "Make the values of an earlier version the current ones",
			Query: []string{"reason"}, handle: (*Handler).restoreService, writes: true, body: small, update: true, match: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/services/:service/versions", Role: conf.RoleRead, Summary: "List the versions of a service, newest first",
			Query: []string{"limit", "consistent"}, handle: (*Handler).listVersions, audit: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/services/:service/secrets", Role: conf.RoleRead, Summary: "List the secrets of a service, without their values",
			Query: []string{"consistent"}, handle: (*Handler).listSecrets, audit: true,
		},
		{
			Method: http.MethodPut, Path: "/api/config/services/:service/secrets/:key", Role: conf.RoleWrite, Summary: "Set a secret",
			Query: []string{"reason"}, handle: (*Handler).putSecret, writes: true, body: 128 << 10, update: true, match: true,
		},
		{
			Method: http.MethodDelete, Path: "/api/config/services/:service/secrets/:key", Role: conf.RoleWrite, Summary: "Remove a secret",
			Query: []string{"version", "reason"}, handle: (*Handler).deleteSecret, writes: true, update: true, match: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/services/:service/secrets/:key/reveal", Role: conf.RoleWrite, Summary: "Show the value of a secret; the access log keeps who asked and why",
			Query: []string{"reason"}, handle: (*Handler).revealSecret, writes: true, body: small,
		},
		{
			Method: http.MethodPost, Path: "/api/config/search", Role: conf.RoleRead, Summary: "Search keys, values and descriptions of all services",
			Query: []string{"consistent"}, handle: (*Handler).search, body: small, audit: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/history", Role: conf.RoleRead, Summary: "Who changed which key, when and why",
			Query:  []string{"service", "key", "user", "since", "until", "version", "limit", "offset", "consistent"},
			handle: (*Handler).history, audit: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/schemas", Role: conf.RoleRead, Summary: "List the schemas",
			Query: []string{"consistent"}, handle: (*Handler).listSchemas,
		},
		{
			Method: http.MethodGet, Path: "/api/config/schemas/:service", Role: conf.RoleRead, Summary: "Read the schema of a service and its fields",
			Query: []string{"consistent"}, handle: (*Handler).getSchema,
		},
		{
			Method: http.MethodPut, Path: "/api/config/schemas/:service", Role: conf.RoleWrite, Summary: "Store the schema of a service",
			Query: []string{"reason"}, handle: (*Handler).putSchema, writes: true, body: conf.MaxSchema,
			types: []string{"application/schema+json"},
		},
		{
			Method: http.MethodGet, Path: "/api/config/profiles", Role: conf.RoleRead, Summary: "List the profiles",
			Query: []string{"consistent"}, handle: (*Handler).listProfiles,
		},
		{
			Method: http.MethodGet, Path: "/api/config/profiles/:name", Role: conf.RoleRead, Summary: "Read a profile",
			Query: []string{"consistent"}, handle: (*Handler).getProfile, audit: true,
		},
		{
			Method: http.MethodPut, Path: "/api/config/profiles/:name", Role: conf.RoleWrite, Summary: "Save a profile",
			Query: []string{"service", "reason"}, handle: (*Handler).putProfile, writes: true, body: document, optional: true,
		},
		{
			Method: http.MethodDelete, Path: "/api/config/profiles/:name", Role: conf.RoleWrite, Summary: "Delete a profile",
			Query: []string{"reason"}, handle: (*Handler).deleteProfile, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/profiles/:name/activate", Role: conf.RoleWrite, Summary: "Put the values of a profile into effect",
			Query: []string{"reason"}, handle: (*Handler).activateProfile, writes: true, body: small, optional: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/access", Role: conf.RoleWrite, Summary: "The access log: who read, changed or was refused",
			Query:  []string{"user", "action", "service", "since", "until", "limit", "offset"},
			handle: (*Handler).access, audit: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/tokens", Role: conf.RoleRead, Summary: "List the API tokens, without what they are used by",
			Query: []string{"consistent"}, handle: (*Handler).listAPITokens, audit: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/tokens", Role: conf.RoleWrite, Summary: "Make an API token; it is shown this once",
			handle: (*Handler).createAPIToken, writes: true, body: small,
		},
		{
			Method: http.MethodDelete, Path: "/api/config/tokens/:id", Role: conf.RoleWrite, Summary: "Revoke an API token",
			handle: (*Handler).revokeAPIToken, writes: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/keys", Role: conf.RoleRead, Summary: "The keys of the cluster, who holds them, and where rotations stand",
			handle: (*Handler).keysStatus,
		},
		{
			Method: http.MethodPost, Path: "/api/config/keys/:kind/rotate", Role: conf.RoleWrite, Summary: "Put a new key in the place of one: master, hmac, signing or ca",
			Query: []string{"reason"}, handle: (*Handler).changeKey, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/keys/:kind/prepare", Role: conf.RoleWrite, Summary: "Hand a new key out, and wait with its use until it is rotated",
			Query: []string{"reason"}, handle: (*Handler).changeKey, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/keys/:kind/abort", Role: conf.RoleWrite, Summary: "Give up a new key that is not in use yet",
			Query: []string{"reason"}, handle: (*Handler).changeKey, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/keys/:kind/retire", Role: conf.RoleWrite, Summary: "End the time of the old key now, when nothing needs it any more",
			Query: []string{"reason"}, handle: (*Handler).changeKey, writes: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/backups", Role: conf.RoleRead, Summary: "List the backups, the newest first",
			handle: (*Handler).listBackups,
		},
		{
			Method: http.MethodGet, Path: "/api/config/backups/status", Role: conf.RoleRead, Summary: "How the backup is, and when it was last proved",
			handle: (*Handler).backupStatus,
		},
		{
			Method: http.MethodPost, Path: "/api/config/backups/drill", Role: conf.RoleWrite, Summary: "Prove the backup by restoring it to a temporary file",
			handle: (*Handler).drillBackup, writes: true,
		},
		{
			Method: http.MethodGet, Path: "/api/config/cluster", Role: conf.RoleRead, Summary: "The agents of the cluster and how they are",
			handle: (*Handler).clusterStatus,
		},
		{
			Method: http.MethodGet, Path: "/api/config/cluster/tokens", Role: conf.RoleRead, Summary: "List the join tokens, without their secrets",
			Query: []string{"consistent"}, handle: (*Handler).listTokens,
		},
		{
			Method: http.MethodPost, Path: "/api/config/cluster/tokens", Role: conf.RoleWrite, Summary: "Make a join token; it is shown this once",
			handle: (*Handler).createToken, writes: true, body: small,
		},
		{
			Method: http.MethodDelete, Path: "/api/config/cluster/tokens/:id", Role: conf.RoleWrite, Summary: "Revoke a join token",
			handle: (*Handler).revokeToken, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/cluster/members/:node/promote", Role: conf.RoleWrite, Summary: "Make a server a voter",
			handle: (*Handler).changeMember, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/cluster/members/:node/demote", Role: conf.RoleWrite, Summary: "Make a voter a non-voter",
			handle: (*Handler).changeMember, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/cluster/members/:node/remove", Role: conf.RoleWrite, Summary: "Take an agent out of the cluster",
			handle: (*Handler).changeMember, writes: true,
		},
		{
			Method: http.MethodPost, Path: "/api/config/cluster/transfer", Role: conf.RoleWrite, Summary: "Hand the leadership to another voter",
			handle: (*Handler).transferLeadership, writes: true, body: small, optional: true,
		},
		{
			Method: http.MethodPost, Path: leavePath, Role: conf.RoleWrite, Summary: "Take this agent itself out of the cluster",
			handle: (*Handler).leaveCluster, writes: true, here: true,
		},
	}
}
