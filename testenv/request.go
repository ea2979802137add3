package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reply is an HTTP answer, read whole.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error // no answer came, or not all of it
}

// client keeps connections alive and gives up on an agent that hangs.
var client = &http.Client{
	Timeout:   Patience,
	Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second},
}

// Do makes one request. headers are "Name: value"; "Host: x" sets the host.
func Do(method, url, body string, headers ...string) Reply {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return Reply{Err: err}
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return Reply{Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Reply{Status: resp.StatusCode, Header: resp.Header, Body: data, Err: err}
}

// OK fails the test unless the answer is a success.
func (r Reply) OK(t testing.TB) Reply {
	t.Helper()
	if r.Err != nil || r.Status/100 != 2 {
		t.Fatalf("unexpected answer: %s", r)
	}
	return r
}

// Want fails the test unless the answer has this status and, when code is not
// empty, this error code and a hint.
func (r Reply) Want(t testing.TB, status int, code conf.Code) Reply {
	t.Helper()
	if r.Err != nil || r.Status != status {
		t.Fatalf("want status %d, got: %s", status, r)
	}
	if code != "" {
		if e := r.Failure(); e.Success || e.Code != code || e.Error == "" {
			t.Fatalf("want error %q, got: %s", code, r)
		}
	}
	return r
}

// Failure is an error body.
type Failure struct {
	Success        bool              `json:"success"`
	Error          string            `json:"error"`
	Code           conf.Code         `json:"code"`
	Hint           string            `json:"hint"`
	Details        []conf.FieldError `json:"details"`
	CurrentVersion uint64            `json:"current_version"`
}

// Failure decodes the error body, as far as it is one.
func (r Reply) Failure() Failure {
	f := Failure{Success: true}
	_ = json.Unmarshal(r.Body, &f)
	return f
}

// Into decodes the body into dst and fails the test when that does not work.
func (r Reply) Into(t testing.TB, dst any) {
	t.Helper()
	if err := json.Unmarshal(r.OK(t).Body, dst); err != nil {
		t.Fatalf("decoding %s: %v", r, err)
	}
}

func (r Reply) String() string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return fmt.Sprintf("%d %s", r.Status, bytes.TrimSpace(r.Body[:min(len(r.Body), 600)]))
}

// API is the two APIs of an agent, wherever it runs. Its methods that make requests may
// be called from any goroutine.
type API struct {
	t                    testing.TB
	LocalAddr, AdminAddr string // host:port
	running              func() bool
}

// Local makes a GET on the local API.
func (a *API) Local(path string, headers ...string) Reply {
	return Do("GET", "http://"+a.LocalAddr+path, "", headers...)
}

// Admin makes a request on the admin API, with the write token unless headers
// name another.
func (a *API) Admin(method, path, body string, headers ...string) Reply {
	return Do(method, "http://"+a.AdminAddr+path, body, append([]string{"X-API-Token: " + WriteToken}, headers...)...)
}

// Once makes one request. headers are names and values in turns.
func (a *API) Once(method, url, body string, headers ...string) (int, http.Header, string) {
	a.t.Helper()
	var lines []string
	for i := 0; i+1 < len(headers); i += 2 {
		lines = append(lines, headers[i]+": "+headers[i+1])
	}
	r := Do(method, url, body, lines...)
	if r.Err != nil {
		a.t.Fatal(r.Err)
	}
	return r.Status, r.Header, string(r.Body)
}

// Call is Once that asks again while the answer is that nobody leads, which nothing was
// changed by: on a machine that stalls there is an election at any time.
func (a *API) Call(method, url, body string, headers ...string) (code int, h http.Header, text string) {
	a.t.Helper()
	poll(Patience, func() bool {
		code, h, text = a.Once(method, url, body, headers...)
		return code != http.StatusServiceUnavailable || !strings.Contains(text, `"code":"`+string(conf.CodeNoQuorum)+`"`)
	})
	return code, h, text
}

// Try makes a request of the admin API as a careful client does: while the answer is
// that it cannot be done now, as in an election, which a busy machine may bring about
// at any time, or when it is lost, the request is repeated, with the Idempotency-Key
// that it had. It returns the last answer.
func (a *API) Try(method, path, body string, headers ...string) (r Reply) {
	if method != http.MethodGet {
		headers = append([]string{fmt.Sprintf("Idempotency-Key: try-%d", rand.Uint64())}, headers...)
	}
	poll(Patience, func() bool {
		r = a.Admin(method, path, body, headers...)
		switch r.Failure().Code {
		case conf.CodeNoQuorum, conf.CodeReadOnly, conf.CodeStale, conf.CodeOutcomeUnknown, conf.CodeRateLimited:
			return false
		}
		return r.Err == nil || !a.running()
	})
	return r
}

// Patch changes values of a service and returns its new version.
func (a *API) Patch(service, patch string) uint64 {
	a.t.Helper()
	var out struct {
		Success    bool   `json:"success"`
		NewVersion uint64 `json:"new_version"`
	}
	a.Try("PATCH", "/api/config/services/"+service, patch).Into(a.t, &out)
	if !out.Success || out.NewVersion == 0 {
		a.t.Fatalf("patch of %s: %+v", service, out)
	}
	return out.NewVersion
}

// Document is the local API's answer for one service.
type Document struct {
	conf.ReadResponse
	Values map[string]any // Config, decoded
	Source string         // X-Config-Source
}

// Document reads a service's document from the local API.
func (a *API) Document(service string) Document {
	a.t.Helper()
	d, err := a.TryDocument(service)
	if err != nil {
		a.t.Fatal(err)
	}
	return d
}

// TryDocument is Document for an agent that may be down.
func (a *API) TryDocument(service string) (Document, error) {
	r := a.Local("/v1/config/" + service)
	if r.Err != nil || r.Status != http.StatusOK {
		return Document{}, fmt.Errorf("reading %s: %s", service, r)
	}
	d := Document{Source: r.Header.Get("X-Config-Source")}
	if err := json.Unmarshal(r.Body, &d.ReadResponse); err != nil {
		return d, fmt.Errorf("reading %s: %w", service, err)
	}
	dec := json.NewDecoder(bytes.NewReader(d.Config))
	dec.UseNumber()
	return d, dec.Decode(&d.Values)
}

// Services are the names of all services that the agent knows.
func (a *API) Services() []string {
	a.t.Helper()
	var out struct {
		Services []conf.ServiceInfo `json:"services"`
	}
	a.Admin("GET", "/api/config/services", "").Into(a.t, &out)
	var names []string
	for _, s := range out.Services {
		names = append(names, s.Service)
	}
	return names
}

// Health is the agent's health; ok is false while it does not answer.
func (a *API) Health() (h conf.Health, ok bool) {
	r := Do("GET", "http://"+a.AdminAddr+"/api/config/health", "")
	if r.Err != nil || json.Unmarshal(r.Body, &h) != nil {
		return h, false
	}
	return h, h.OperationalMode != ""
}

// AwaitHealth waits until the health is as cond wants it, and returns it.
func (a *Agent) AwaitHealth(what string, cond func(conf.Health) bool) conf.Health {
	a.t.Helper()
	var last conf.Health
	if !poll(Patience, func() bool {
		if !a.Running() {
			return true
		}
		h, ok := a.Health()
		last = h
		return ok && cond(h)
	}) {
		a.t.Fatalf("waited %v in vain for: %s; health is %s", Patience, what, jsonText(last))
	}
	if !a.Running() {
		a.t.Fatalf("the agent ended while waiting for: %s\n%s", what, a.log.Tail(40))
	}
	return last
}

// AwaitNormal waits until the agent is ready and takes writes.
func (a *Agent) AwaitNormal() {
	a.t.Helper()
	a.AwaitHealth("the agent to work normally", func(h conf.Health) bool {
		return h.OK && h.OperationalMode == conf.ModeNormal && a.Local("/readyz").Status == http.StatusOK
	})
}

// AwaitServing waits until the local API answers for service, from whatever source.
func (a *API) AwaitServing(service string) Document {
	a.t.Helper()
	var d Document
	Await(a.t, "the local API to serve "+service, func() (ok bool) {
		var err error
		d, err = a.TryDocument(service)
		return err == nil
	})
	return d
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
