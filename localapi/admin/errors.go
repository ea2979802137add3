package admin

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"

	"github.com/holdfast-config/holdfast/localapi/fairqueue"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// retryAfter holds the seconds after which a request may be repeated.
var retryAfter = map[conf.Code]int{
	conf.CodeReadOnly:    5,
	conf.CodeNoQuorum:    1,
	conf.CodeStale:       1,
	conf.CodeLocked:      5,
	conf.CodeRateLimited: fairqueue.RetryAfter,
}

// hints are the ways out for errors that come without one.
var hints = map[conf.Code]string{
	conf.CodeMalformed:       "correct the request; GET /openapi.json says what each route takes",
	conf.CodeInvalid:         "correct the values named in details",
	conf.CodeTooLarge:        "send less at once",
	conf.CodeUnauthenticated: "send an API token in the " + TokenHeader + " header",
	conf.CodeDenied:          "use a token with the role that this needs",
	conf.CodeNotFound:        "list what there is: services, schemas, profiles or versions",
	conf.CodeMethod:          "GET /openapi.json lists the methods of each route",
	conf.CodeConflict:        "read it again, and repeat the change with the version in current_version",
	conf.CodeRolloutActive:   "wait for the end of the rollout, or send the change with ?rollout=replace",
	conf.CodeImmutable:       "change it in the environment of the agent",
	conf.CodeUnsupported:     "GET /openapi.json lists what there is",
	conf.CodeReadOnly:        "GET /api/config/health shows the reason; reads continue",
	conf.CodeNoQuorum:        "retry when a leader is known; reads continue",
	conf.CodeOutcomeUnknown:  "read the service to see whether the change was made, or repeat it with the same Idempotency-Key",
	conf.CodeStale:           "repeat it when the agent has caught up",
	conf.CodeRateLimited:     "wait, then send the right token",
	conf.CodeStorageFull:     "make room on the disk of the agent's data directory",
	conf.CodeCorrupt:         "GET /api/config/health shows what is damaged; reads continue",
	conf.CodeLocked:          "find the process that holds the database, and stop it",
	conf.CodeSchemaMismatch:  "GET /api/config/health shows more; reads continue",
	conf.CodeUsage:           "correct the request",
	conf.CodeInternal:        "look for the request_id in the log of the agent",
}

// httpError is an error with a status or headers other than those of its code.
type httpError struct {
	err    *conf.Error
	status int
	header http.Header
}

func (e *httpError) Error() string { return e.err.Error() }
func (e *httpError) Unwrap() error { return e.err }

// updateErrorBody is a superset of the seed's ConfigUpdateResponse.
type updateErrorBody struct {
	httperror.Body
	NewVersion *uint64 `json:"new_version"`
}

// failure turns err into a response. The text of internal errors, and the causes
// of other server errors, go to the log only.
func (h *Handler) failure(c *call, err error) reply {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok {
		e = &conf.Error{Code: conf.CodeInternal, Message: "internal error", Err: err}
	}
	status := httperror.Status(e.Code)
	header := http.Header{}
	if s := retryAfter[e.Code]; s > 0 {
		header.Set("Retry-After", strconv.Itoa(s))
	}
	if he, ok := errors.AsType[*httpError](err); ok {
		status = cmp.Or(he.status, status)
		for k, v := range he.header {
			header[k] = v
		}
	}
	body := httperror.New(e)
	body.Hint = cmp.Or(body.Hint, hints[e.Code])
	if status >= http.StatusInternalServerError {
		h.o.Logger.Warn("admin request failed", "request_id", c.id, "method", c.r.Method, "route", c.name(),
			"status", status, "code", string(e.Code), "err", err)
		body.Error, body.Request = e.Message, c.id
	}
	if status == http.StatusInternalServerError {
		body = httperror.Public(nil, hints[conf.CodeInternal])
		body.Request = c.id
	}
	if c.route != nil && c.route.update {
		return reply{status: status, header: header, body: updateErrorBody{Body: body}}
	}
	return reply{status: status, header: header, body: body}
}

// invalid is a CodeInvalid error about one member or parameter.
func invalid(key, format string, args ...any) *conf.Error {
	e := conf.Errorf(conf.CodeInvalid, format, args...)
	e.Details = []conf.FieldError{{Key: key, Message: e.Message}}
	e.Message = key + ": " + e.Message
	return e
}
