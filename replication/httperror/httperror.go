package httperror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// statuses maps every code to its HTTP status.
var statuses = map[conf.Code]int{
	conf.CodeMalformed:       http.StatusBadRequest,
	conf.CodeInvalid:         http.StatusUnprocessableEntity,
	conf.CodeTooLarge:        http.StatusRequestEntityTooLarge,
	conf.CodeUnauthenticated: http.StatusUnauthorized,
	conf.CodeDenied:          http.StatusForbidden,
	conf.CodeNotFound:        http.StatusNotFound,
	conf.CodeMethod:          http.StatusMethodNotAllowed,
	conf.CodeConflict:        http.StatusConflict,
	conf.CodeRolloutActive:   http.StatusConflict,
	conf.CodeImmutable:       http.StatusConflict,
	conf.CodeUnsupported:     http.StatusNotImplemented,
	conf.CodeReadOnly:        http.StatusServiceUnavailable,
	conf.CodeNoQuorum:        http.StatusServiceUnavailable,
	conf.CodeOutcomeUnknown:  http.StatusGatewayTimeout,
	conf.CodeStale:           http.StatusServiceUnavailable,
	conf.CodeRateLimited:     http.StatusTooManyRequests,
	conf.CodeStorageFull:     http.StatusInsufficientStorage,
	conf.CodeCorrupt:         http.StatusServiceUnavailable, // the agent repairs its data, and other agents have it
	conf.CodeLocked:          http.StatusServiceUnavailable,
	conf.CodeSchemaMismatch:  http.StatusServiceUnavailable,
	conf.CodeUsage:           http.StatusBadRequest,
	conf.CodeInternal:        http.StatusInternalServerError,
}

// Status returns the HTTP status of a code: 500 for one that is not in the closed
// set of conf.
func Status(code conf.Code) int {
	if s, ok := statuses[code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Body is the JSON body of an error response.
type Body struct {
	Success bool              `json:"success"` // always false
	Error   string            `json:"error"`
	Code    conf.Code         `json:"code"`
	Hint    string            `json:"hint,omitempty"`
	Details []conf.FieldError `json:"details,omitempty"`
	Current *uint64           `json:"current_version,omitempty"` // with version_conflict
	Request string            `json:"request_id,omitempty"`
}

// New returns the body of err with the text of its causes: for a caller that may
// see paths and addresses of this host.
func New(err error) Body {
	b := Body{Error: err.Error(), Code: conf.CodeOf(err), Hint: conf.HintOf(err)}
	if e, ok := errors.AsType[*conf.Error](err); ok {
		b.Details = e.Details
		if e.Code == conf.CodeConflict {
			b.Current = &e.Current
		}
	}
	return b
}

// Public returns the body of err without its causes, which may contain paths and
// addresses of this host. Nothing is left of an internal error but internalHint,
// which says where to find it.
func Public(err error, internalHint string) Body {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || e.Code == conf.CodeInternal {
		return Body{Error: "internal error", Code: conf.CodeInternal, Hint: internalHint}
	}
	return Body{Error: e.Message, Code: e.Code, Hint: e.Hint}
}

// Write sends the body with the status of its code.
func (b Body) Write(w http.ResponseWriter) {
	if b.Code == conf.CodeRateLimited && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", retrySoon)
	}
	WriteJSON(w, Status(b.Code), b)
}

// retrySoon is Retry-After of what is rate limited and says no other time.
const retrySoon = "5"

// WriteJSON sends v, which no cache may store, as JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := Marshal(v)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Marshal is json.Marshal without the escapes for HTML.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// StatusError is a response that is no success, and whose body is not that of an
// agent: of a proxy, of another program, or of a build without the route.
type StatusError struct{ Status int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
}

// IsNoRoute reports whether the other side does not have the route that was
// called, as an agent of an older build.
func IsNoRoute(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.Status == http.StatusNotFound
}

// Read returns the error that a response with this status and body reports: a
// *conf.Error with the code of the other side, else a *StatusError. A code that
// this build does not have is conf.CodeInternal, and is part of the message.
func Read(status int, body []byte) error {
	var b Body
	if json.Unmarshal(body, &b) != nil || b.Code == "" {
		return &StatusError{status}
	}
	if !slices.Contains(conf.Codes(), b.Code) {
		b.Error, b.Code = fmt.Sprintf("%s (code %s)", b.Error, b.Code), conf.CodeInternal
	}
	e := &conf.Error{Code: b.Code, Message: b.Error, Hint: b.Hint, Details: b.Details}
	if b.Current != nil {
		e.Current = *b.Current
	}
	return e
}
