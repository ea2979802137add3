package ofrep

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The error codes of OpenFeature that occur here.
const (
	flagNotFound   = "FLAG_NOT_FOUND"
	parseError     = "PARSE_ERROR"
	invalidContext = "INVALID_CONTEXT"
	general        = "GENERAL"
)

// failure is an answer without a value.
type failure struct {
	code, details string
}

// failureBody has the metadata always, and the details: providers fail without.
type failureBody struct {
	Key      *string  `json:"key,omitempty"` // nil when the question was for all flags
	Code     string   `json:"errorCode"`
	Details  string   `json:"errorDetails"`
	Metadata metadata `json:"metadata"`
}

func failureOf(err *conf.Error) *failure {
	details := err.Error()
	if err.Hint != "" {
		details += "; " + err.Hint
	}
	return &failure{general, details}
}

func unreadable(service string, err error) *failure {
	return &failure{general, "the document of " + strconv.Quote(service) + " cannot be read: " + err.Error()}
}

// fail answers without a value. f is nil when there is no document.
func (o *room) fail(w http.ResponseWriter, r *http.Request, status int, why *failure, f *flags) {
	body := failureBody{Code: why.code, Details: why.details}
	if key := r.PathValue("key"); key != "" {
		body.Key = &key
	}
	switch service, _ := o.service(r); {
	case f != nil:
		f.doc.WriteVersion(w.Header())
		body.Metadata = metadata{f.doc.Service(), f.doc.Version(), f.doc.Epoch()}
	case conf.CheckService(service) == nil:
		body.Metadata.Service = service
	}
	o.send(w, status, encode(body))
}

// absent answers for a flag, or a service, that is not there. The protocol has no status
// for a service that does not exist.
func (o *room) absent(w http.ResponseWriter, r *http.Request, service, key string, own bool, f *flags) {
	err := o.server.Absent(service, key, own)
	why := failureOf(err)
	if err.Code != conf.CodeNotFound { // nobody knows yet whether it is there
		w.Header().Set("Retry-After", "1")
		o.fail(w, r, http.StatusInternalServerError, why, f)
		return
	}
	if service == "" {
		why.details = err.Error() + "; the base URL of another one ends with /s/SERVICE, or start the agent with CONFIG_SERVICE_NAME"
	}
	if r.PathValue("key") == "" {
		o.fail(w, r, http.StatusBadRequest, why, f)
		return
	}
	why.code = flagNotFound
	if f != nil && strings.ContainsRune(key, '-') && conf.CheckAnyKey(key) == nil {
		why.details += `; keys with dashes need "x-keys": "any" in the schema`
	}
	o.fail(w, r, http.StatusNotFound, why, f)
}

// send writes a response of JSON.
func (o *room) send(w http.ResponseWriter, status int, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(status)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}
