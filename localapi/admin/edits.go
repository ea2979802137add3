package admin

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Editor changes one service. A draft with DryRun needs the read role only.
type Editor interface {
	Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error)
}

// edits makes changes of one service, for the rooms that have some.
type edits struct {
	editor Editor
	reader Reader
	ids    requestIDs

	rollouts Rollouts // nil: all changes are for all instances at once
}

// updateResponse is the seed's ConfigUpdateResponse, as Pydantic writes it.
type updateResponse struct {
	Success    bool    `json:"success"`
	NewVersion *uint64 `json:"new_version"`
	Error      *string `json:"error"`
}

// change completes a draft with what all of them have, and executes it.
func (e *edits) change(c *call, d conf.Draft) (reply, error) {
	var err error
	if d.Reason, err = c.reason(d.Reason); err != nil {
		return reply{}, err
	}
	if d.RequestID, d.EarlierIDs, err = e.ids.of(c); err != nil {
		return reply{}, err
	}
	if d.Expect, err = e.expect(c, d.Expect); err != nil {
		return reply{}, err
	}
	d.Service, d.Author = c.service(), c.who.Name
	plan, err := e.plan(c, &d)
	if err != nil {
		return reply{}, err
	}
	if plan != nil {
		return e.inSteps(c, d, *plan)
	}
	out, err := e.editor.Do(c.r.Context(), c.who, d)
	if err != nil {
		return reply{}, err
	}
	return reply{header: outcomeHeader(out), body: updateResponse{Success: true, NewVersion: &out.Version}}, nil
}

// outcomeHeader has what the seed's body has no member for: whether there is a
// new version, and which profiles a new schema made stale.
func outcomeHeader(out conf.Outcome) http.Header {
	header := http.Header{}
	header.Set("X-Config-Version", strconv.FormatUint(out.Version, 10))
	header.Set("X-Config-Changed", strconv.FormatBool(out.Changed))
	var stale []string
	for _, p := range out.Stale {
		stale = append(stale, p.Profile)
	}
	if stale != nil {
		header.Set("X-Config-Stale-Profiles", strings.Join(stale, ", "))
	}
	return header
}

// expect is the version that a change is based on: from the body, the parameter
// version, or If-Match, which may not contradict each other. nil is any version.
func (e *edits) expect(c *call, inBody *uint64) (*uint64, error) {
	out := inBody
	add := func(v uint64) error {
		if out != nil && *out != v {
			return conf.Errorf(conf.CodeMalformed, "two different expected versions, %d and %d", *out, v).
				WithHint("give it once")
		}
		out = &v
		return nil
	}
	if c.query.Has("version") {
		v, err := c.number("version", 0, conf.MaxInteger, 0)
		if err != nil {
			return nil, err
		}
		if err := add(v); err != nil {
			return nil, err
		}
	}
	given := c.r.Header.Values("If-Match")
	if len(given) == 0 {
		return out, nil
	}
	text := strings.TrimSpace(strings.Join(given, ","))
	bare := text
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		bare = text[1 : len(text)-1]
	}
	number, rest, full := strings.Cut(bare, "-")
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil || strings.ContainsAny(rest, `", `) {
		return nil, conf.Errorf(conf.CodeMalformed, "If-Match %q is neither a version nor an ETag of this route", conf.Clip(text)).
			WithHint(`send the version that you read, such as If-Match: "5", or the ETag of the answer as it was`)
	}
	if err := add(v); err != nil {
		return nil, err
	}
	if full {
		return out, e.sameTag(c, bare)
	}
	return out, nil
}

// sameTag compares a whole ETag with the record. The version alone is compared
// again by the editor, under its lock; a version of another epoch only here.
func (e *edits) sameTag(c *call, bare string) error {
	var current uint64
	rec, err := e.reader.CurrentRecord(c.r.Context(), c.service())
	switch {
	case conf.CodeOf(err) == conf.CodeNotFound:
	case err != nil:
		return err
	default:
		if want := `"` + strings.TrimSuffix(bare, "-stored") + `"`; want == tag(rec, false) {
			return nil
		}
		current = rec.Version
	}
	conflict := conf.Errorf(conf.CodeConflict, "%s has changed since the ETag was read; it is at version %d", c.service(), current).
		WithHint("read it again, and repeat the change on the current version")
	conflict.Current = current
	return conflict
}

// requestIDs makes the ids that tell a repeated request from a new one, with the
// keys of Options.RequestKeys. nil makes them without a key.
type requestIDs func() [][]byte

// of returns the id of a call with an Idempotency-Key. It covers the whole
// request: another request with the same key must not get the result of the first.
// earlier are the ids of the same request under older keys.
func (keys requestIDs) of(c *call) (id string, earlier []string, err error) {
	key := c.r.Header.Get("Idempotency-Key")
	if key == "" {
		return "", nil, nil
	}
	if len(key) > conf.MaxName || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", nil, invalid("Idempotency-Key", "must be 1 to %d printable ASCII characters without spaces", conf.MaxName).
			WithHint("use a UUID")
	}
	secrets := [][]byte{nil}
	if keys != nil {
		if held := keys(); len(held) > 0 {
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

// why is the reason and the request id of a change that is idempotent by itself.
func (keys requestIDs) why(c *call, inBody string) (reason, id string, err error) {
	if reason, err = c.reason(inBody); err != nil {
		return "", "", err
	}
	id, _, err = keys.of(c)
	return reason, id, err
}
