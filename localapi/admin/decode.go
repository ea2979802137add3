package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
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

	"github.com/holdfast-config/holdfast/replication/conf"
)

// decode reads what every route has in common: names in the path, parameters,
// headers, and the bytes of the body.
func (c *call) decode(wait time.Duration) error {
	if s, ok := c.param("service"); ok {
		if err := conf.CheckService(s); err != nil {
			return err
		}
		c.audit = s
	}
	if s, ok := c.param("name"); ok {
		if err := conf.CheckProfile(s); err != nil {
			return err
		}
	}
	if s, ok := c.param("node"); ok {
		if err := conf.CheckNode(s); err != nil {
			return err
		}
	}
	if s, ok := c.param("id"); ok {
		if err := conf.CheckTokenID(s); err != nil {
			return err
		}
	}
	if s, ok := c.param("key"); ok {
		if err := conf.CheckKey(s); err != nil {
			return err
		}
	}
	if err := c.parseQuery(); err != nil {
		return err
	}
	var err error
	if c.consistent, err = c.flag(consistentParam); err != nil {
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

func (c *call) param(name string) (string, bool) {
	for _, p := range c.params {
		if p.Key == name {
			return p.Value, true
		}
	}
	return "", false
}

func (c *call) service() string { return c.params.ByName("service") }

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
			e := conf.Errorf(conf.CodeMalformed, "unknown parameter %q", clip(k)).WithHint("%s", hint)
			e.Details = []conf.FieldError{{Key: clip(k), Message: "unknown parameter"}}
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

// noBody refuses a body where none is read: a version or a reason in it would be
// lost without a word.
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
		return unsupportedMedia("Content-Encoding %q is not understood", "send the body as it is", clip(enc))
	}
	// net/http lifts the deadline when the body has come whole. When it has not,
	// the deadline must stay: the server waits for the rest before it answers.
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
		return unsupportedMedia("Content-Type %q is not understood here", "send "+strings.Join(accepted, " or ")+" in UTF-8, such as -H 'Content-Type: application/json'", clip(given))
	}
	return nil
}

func unsupportedMedia(format, hint string, args ...any) error {
	return &edgeError{
		err:    conf.Errorf(conf.CodeMalformed, format, args...).WithHint("%s", hint),
		status: http.StatusUnsupportedMediaType,
	}
}

// object decodes a member of the body that must be a JSON object.
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

// reason tells why a change is made: from the body, the parameter or the header.
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

// requestID makes the id that tells a repeated request from a new one. It covers
// the whole request: the same Idempotency-Key on another one must not be
// answered with the result of the first. earlier are the ids that the same
// request had under keys that are going out of use.
func (h *Handler) requestID(c *call) (id string, earlier []string, err error) {
	key := c.r.Header.Get("Idempotency-Key")
	if key == "" {
		return "", nil, nil
	}
	if len(key) > conf.MaxName || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", nil, invalid("Idempotency-Key", "must be 1 to %d printable ASCII characters without spaces", conf.MaxName).
			WithHint("use a UUID")
	}
	secrets := [][]byte{nil}
	if h.o.RequestKeys != nil {
		if held := h.o.RequestKeys(); len(held) > 0 {
			secrets = held
		}
	}
	ids := make([]string, len(secrets))
	for i, secret := range secrets {
		sum := hmac.New(sha256.New, secret)
		for _, s := range []string{c.who.Name, key, c.r.Method, c.r.URL.RequestURI(), c.r.Header.Get("If-Match"), string(c.body)} {
			fmt.Fprintf(sum, "%d:%s", len(s), s)
		}
		ids[i] = "key-" + hex.EncodeToString(sum.Sum(nil)[:16])
	}
	return ids[0], ids[1:], nil
}

// number reads a parameter that is a number from low to high; def when absent.
func (c *call) number(name string, low, high, def uint64) (uint64, error) {
	s := c.query.Get(name)
	if !c.query.Has(name) {
		return def, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		e := conf.Errorf(conf.CodeMalformed, "%s: %q is not a number", name, clip(s)).
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
