package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// maxResponse bounds the memory of a response.
const maxResponse = 64 << 20

// request is one call of an agent.
type request struct {
	method string
	path   []string // segments, not escaped
	query  url.Values
	header http.Header
	body   []byte
	json   any    // in place of body
	id     string // Idempotency-Key of a change; made when empty
	change bool   // it changes something: a lost response leaves the outcome unknown
}

// response is a success or a 304.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do sends the request and reads the whole response.
func (c *caller) do(ctx context.Context, ep *endpoint, q request) (*response, error) {
	if ep.base == nil {
		return nil, conf.Errorf(conf.CodeUsage, "no address of the agent is given").WithHint("%s", ep.hint)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.Timeout)
		defer cancel()
	}
	if q.json != nil {
		var err error
		if q.body, err = json.Marshal(q.json); err != nil {
			return nil, conf.Errorf(conf.CodeMalformed, "cannot be written as JSON: %w", err)
		}
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	target := ep.base.JoinPath(escape(q.path)...)
	target.RawQuery = q.query.Encode()
	req, err := http.NewRequestWithContext(ctx, q.method, target.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "bad request: %w", err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	if ep.token != "" {
		if strings.ContainsFunc(ep.token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, conf.Errorf(conf.CodeUsage, "the token has control characters in it").WithHint("check CONFIG_API_TOKEN for a line break")
		}
		req.Header.Set(ep.header, ep.token)
	}
	if len(q.body) > 0 && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.change {
		if q.id == "" {
			q.id = rand.Text()
		}
		req.Header.Set("Idempotency-Key", q.id)
	}
	res, err := ep.http.Do(req)
	if err != nil {
		return nil, ep.failed(q, err, sent.Load())
	}
	defer func() { _ = res.Body.Close() }() // it was read, or is not needed
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return nil, ep.failed(q, err, true)
	}
	if len(body) > maxResponse {
		return nil, conf.Errorf(conf.CodeTooLarge, "the response of the agent is over %d bytes", maxResponse).WithHint("request a smaller page")
	}
	if (res.StatusCode >= 200 && res.StatusCode < 300) || res.StatusCode == http.StatusNotModified {
		return &response{status: res.StatusCode, header: res.Header, body: body}, nil
	}
	return nil, ep.rejected(q, res, body)
}

func escape(path []string) []string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = url.PathEscape(p)
		if p == "." || p == ".." {
			out[i] = strings.ReplaceAll(p, ".", "%2E") // JoinPath resolves them
		}
	}
	return out
}

// failed is the error of a request without a response.
func (ep *endpoint) failed(q request, err error, sent bool) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the URL, which holds what was asked
	}
	if sent && q.change {
		return conf.Errorf(conf.CodeOutcomeUnknown, "the answer of the agent at %s was lost: %w", ep.base, err).
			WithHint("the change may have been made: read it back, or repeat it with the same request id")
	}
	if sent {
		return conf.Errorf(conf.CodeInternal, "the response of the agent at %s was lost: %w", ep.base, err).WithHint("retry")
	}
	return conf.Errorf(conf.CodeInternal, "cannot reach the agent at %s: %w", ep.base, err).WithHint("%s", ep.hint)
}

// rejected is the error that the agent sent.
func (ep *endpoint) rejected(q request, res *http.Response, body []byte) error {
	err := httperror.Read(res.StatusCode, body)
	if _, foreign := errors.AsType[*httperror.StatusError](err); !foreign {
		return err
	}
	// A proxy between the two, or another program on that port. A gateway that
	// timed out does not know the outcome of a change either.
	code := conf.CodeInternal
	if q.change && res.StatusCode >= http.StatusInternalServerError {
		code = conf.CodeOutcomeUnknown
	}
	return conf.Errorf(code, "%s answered %s, which is not the response of an agent", ep.base, res.Status).WithHint("%s", ep.hint)
}

// into decodes a response.
func (ep *endpoint) into(res *response, dst any) error {
	if err := json.Unmarshal(res.body, dst); err != nil {
		return conf.Errorf(conf.CodeInternal, "%s did not answer as an agent does: %w", ep.base, err).WithHint("%s", ep.hint)
	}
	return nil
}

// call requests a route below /api/config and decodes the response.
func call[T any](ctx context.Context, c *caller, q request) (out T, err error) {
	q.path = append([]string{"api", "config"}, q.path...)
	res, err := c.do(ctx, &c.admin, q)
	if err == nil {
		err = c.admin.into(res, &out)
	}
	return out, err
}

func get[T any](ctx context.Context, c *caller, query url.Values, path ...string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path, query: query})
}

// list is get of a list, which is the member of the response that has the name of
// the last segment of its path.
func list[T any](ctx context.Context, c *caller, query url.Values, path ...string) (out []T, err error) {
	members, err := get[map[string]json.RawMessage](ctx, c, query, path...)
	if body, ok := members[path[len(path)-1]]; ok {
		err = c.admin.into(&response{body: body}, &out)
	}
	return out, err
}

// exec is call without a result.
func (c *caller) exec(ctx context.Context, q request) error {
	_, err := call[json.RawMessage](ctx, c, q)
	return err
}

// text reads a resource as it is.
func (c *caller) text(ctx context.Context, ep *endpoint, query url.Values, path ...string) ([]byte, error) {
	res, err := c.do(ctx, ep, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	return res.body, nil
}
