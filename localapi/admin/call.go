package admin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/localapi/session"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// call is one request on its way through the handler.
type call struct {
	r      *http.Request
	w      http.ResponseWriter
	id     string
	route  *Route // nil for a path that the table does not have
	params httprouter.Params
	query  url.Values
	body   []byte
	who    conf.Principal
	audit  string // the service that the row of the access log names

	session    *session.Session // by which the caller was admitted
	renewal    string           // its cookie, when the browser needs a newer one
	consistent bool             // ?consistent=1
	forwarded  bool             // the leader answered
}

// name is the route for logs and audit rows: never the path, which the caller
// chooses.
func (c *call) name() string {
	if c.route == nil {
		return "(no such route)"
	}
	return c.route.Path
}

func (c *call) service() string { return c.params.ByName("service") }

func (c *call) target() Target {
	return Target{Route: c.route.Name, Service: c.service(), Node: c.params.ByName("node")}
}

// checks are those of the parameters in paths.
var checks = map[string]func(string) error{
	"service": conf.CheckService, "name": conf.CheckProfile, "node": conf.CheckNode, "id": conf.CheckTokenID, "key": conf.CheckAnyKey,
	"rollout": conf.CheckRollout,
}

// decode reads what all routes have in common: names in the path, parameters,
// headers, and the bytes of the body.
func (c *call) decode(wait time.Duration) error {
	for i := range c.params {
		p := &c.params[i]
		if p.Key == "key" {
			p.Value = conf.PlainKey(p.Value)
		}
		if check := checks[p.Key]; check != nil {
			if err := check(p.Value); err != nil {
				return err
			}
		}
	}
	c.audit = c.service()
	if err := c.parseQuery(); err != nil {
		return err
	}
	var err error
	if c.consistent, err = c.flag(consistentParam); err != nil {
		return err
	}
	if _, err := c.flag(strictParam); err != nil {
		return err
	}
	if c.r.Header.Get("If-Match") != "" && !c.route.match {
		return conf.Errorf(conf.CodeMalformed, "If-Match is not understood here").WithHint("leave the header out")
	}
	if c.route.body == 0 {
		return c.noBody()
	}
	return c.readBody(wait)
}

func (c *call) parseQuery() error {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return conf.Errorf(conf.CodeMalformed, "malformed query string: %w", err).WithHint("percent-encode the values")
	}
	hint := "this route takes no parameters"
	if len(c.route.Query) > 0 {
		hint = "known parameters: " + strings.Join(c.route.Query, ", ")
	}
	for _, k := range conf.SortedKeys(q) {
		if !slices.Contains(c.route.Query, k) {
			e := conf.Errorf(conf.CodeMalformed, "unknown parameter %q", conf.Clip(k)).WithHint("%s", hint)
			e.Details = []conf.FieldError{{Key: conf.Clip(k), Message: "unknown parameter"}}
			return e
		}
		if len(q[k]) > 1 {
			return conf.Errorf(conf.CodeMalformed, "parameter %q is given %d times", k, len(q[k])).WithHint("give it once")
		}
		if !utf8.ValidString(q.Get(k)) {
			return conf.Errorf(conf.CodeMalformed, "parameter %q is not valid UTF-8", k).WithHint("percent-encode its UTF-8 bytes")
		}
	}
	c.query = q
	return nil
}

// noBody rejects a body where none is read: a version or a reason in it would be
// ignored silently.
func (c *call) noBody() error {
	if c.r.Body == nil || c.r.Body == http.NoBody || c.r.ContentLength == 0 {
		return nil
	}
	var one [1]byte
	if n, _ := io.ReadFull(http.MaxBytesReader(c.w, c.r.Body, 1), one[:]); n == 0 {
		return nil
	}
	e := conf.Errorf(conf.CodeMalformed, "this route takes no body")
	if len(c.route.Query) > 0 {
		return e.WithHint("use the parameters: %s", strings.Join(c.route.Query, ", "))
	}
	return e.WithHint("leave it out")
}

func (c *call) readBody(wait time.Duration) error {
	limit := c.route.body
	tooLarge := conf.Errorf(conf.CodeTooLarge, "the body is over the limit of %d bytes", limit).
		WithHint("a document may have %d bytes; split it over several services", conf.MaxDocument)
	if c.r.ContentLength > int64(limit) {
		return tooLarge
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return unsupportedMedia("Content-Encoding %q is not understood", "send the body as it is", conf.Clip(enc))
	}
	// net/http lifts the deadline when the body is complete. Otherwise it must stay:
	// the server waits for the rest before it responds.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(wait)) // a recorder in a test has none
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, int64(limit)))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return conf.Errorf(conf.CodeMalformed, "the body did not arrive whole: %w", err).WithHint("send it again, within %s", wait)
	}
	if len(body) == 0 {
		if c.route.optional {
			return nil
		}
		return conf.Errorf(conf.CodeMalformed, "a body is needed").WithHint("send a JSON object; see /openapi.json")
	}
	if err := c.contentType(); err != nil {
		return err
	}
	c.body = body
	return nil
}

func (c *call) contentType() error {
	given := c.r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	accepted := append([]string{"application/json"}, c.route.types...)
	media, params, err := mime.ParseMediaType(given)
	charset, named := params["charset"]
	if err != nil || !slices.Contains(accepted, media) || (named && !strings.EqualFold(charset, "utf-8")) {
		return unsupportedMedia("Content-Type %q is not understood here", "send "+strings.Join(accepted, " or ")+" in UTF-8, such as -H 'Content-Type: application/json'", conf.Clip(given))
	}
	return nil
}

func unsupportedMedia(format, hint string, args ...any) error {
	return &httpError{
		err:    conf.Errorf(conf.CodeMalformed, format, args...).WithHint("%s", hint),
		status: http.StatusUnsupportedMediaType,
	}
}

// object checks a member of the body that must be a JSON object.
func object(key string, raw []byte) error {
	if len(raw) == 0 {
		return invalid(key, "is needed, as a JSON object").WithHint(`send {%q: {...}}`, key)
	}
	if len(raw) > conf.MaxDocument {
		return conf.Errorf(conf.CodeTooLarge, "%s has %d bytes, the limit is %d", key, len(raw), conf.MaxDocument).
			WithHint("split it over several services")
	}
	if raw[0] != '{' {
		return invalid(key, "must be a JSON object").WithHint(`send {%q: {...}}`, key)
	}
	return nil
}

// reason is why a change is made: from the body, the parameter or the header.
func (c *call) reason(inBody string) (string, error) {
	out := ""
	for _, s := range []string{inBody, c.query.Get("reason"), c.r.Header.Get("X-Config-Reason")} {
		switch {
		case s == "" || s == out:
			continue
		case out != "":
			return "", conf.Errorf(conf.CodeMalformed, "two different reasons are given").
				WithHint("give it once: in the body, as ?reason= or in the X-Config-Reason header")
		}
		out = s
	}
	if len(out) > conf.MaxReason {
		return "", invalid("reason", "has %d bytes, at most %d are allowed", len(out), conf.MaxReason).WithHint("shorten it")
	}
	if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
		return "", invalid("reason", "must be UTF-8 text without control characters").WithHint("leave them out")
	}
	return out, nil
}

// flag reads a parameter that is yes or no; without a value it is yes.
func (c *call) flag(name string) (bool, error) {
	if !c.query.Has(name) {
		return false, nil
	}
	switch v := c.query.Get(name); v {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	default:
		return false, invalid(name, "%q is neither 1 nor 0", conf.Clip(v)).WithHint("use %s=1", name)
	}
}

// number reads a parameter that is a number from low to high; def when absent.
func (c *call) number(name string, low, high, def uint64) (uint64, error) {
	s := c.query.Get(name)
	if !c.query.Has(name) {
		return def, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		e := conf.Errorf(conf.CodeMalformed, "%s: %q is not a number", name, conf.Clip(s)).
			WithHint("give a whole number from %d to %d", low, high)
		e.Details = []conf.FieldError{{Key: name, Message: "not a number"}}
		return 0, e
	}
	if err != nil || n < low || n > high {
		return 0, invalid(name, "must be from %d to %d", low, high).WithHint("give a whole number in that range")
	}
	return n, nil
}

// page reads limit and offset.
func (c *call) page() (limit, offset int, err error) {
	l, err := c.number("limit", 1, maxLimit, defaultLimit)
	if err != nil {
		return 0, 0, err
	}
	o, err := c.number("offset", 0, maxOffset, 0)
	return int(l), int(o), err
}

// window reads since and until.
func (c *call) window() (since, until string, err error) {
	var at [2]time.Time
	out := [2]string{}
	for i, name := range []string{"since", "until"} {
		s := c.query.Get(name)
		if s == "" {
			continue
		}
		if at[i], err = conf.ParseTime(s); err != nil {
			return "", "", fmt.Errorf("%s: %w", name, err)
		}
		out[i] = conf.FormatTime(at[i])
	}
	if out[0] != "" && out[1] != "" && at[1].Before(at[0]) {
		return "", "", invalid("until", "is before since").WithHint("swap them")
	}
	return out[0], out[1], nil
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxOffset    = 1 << 31
)
