package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Document is a document of the local API.
type Document struct {
	conf.ReadResponse
	ETag   string
	Source string        // replica, lkg or default
	Age    time.Duration // since the last contact of the agent to a leader; negative when unknown
	Body   []byte        // the response body as received
}

// Document reads the document of a service; with "" that of the agent's own.
// With a local token it includes secrets.
func (c Local) Document(ctx context.Context, service string) (Document, error) {
	res, err := c.document(ctx, service, "", 0)
	if err != nil {
		return Document{}, err
	}
	return c.decodeDocument(res)
}

// Acknowledge tells the agent what became of a version of a document: Version and Epoch are
// those of its metadata. It needs the local token, or the unix socket. The error is
// conf.CodeConflict when the agent serves another version by now.
func (c Local) Acknowledge(ctx context.Context, service string, a conf.Ack) error {
	_, err := c.do(ctx, &c.local, request{method: http.MethodPost, path: []string{"v1", "ack", service}, json: a})
	return err
}

// document requests a document. With a tag the response may be a 304; with a wait
// the agent responds after a change, or when the wait is over.
func (c Local) document(ctx context.Context, service, tag string, wait time.Duration) (*response, error) {
	q := request{method: http.MethodGet, path: []string{"v1", "config"}, query: url.Values{}, header: http.Header{}}
	if service != "" {
		q.path = append(q.path, service)
	}
	if tag != "" {
		q.header.Set("If-None-Match", tag)
	}
	if wait > 0 {
		q.query.Set("wait", wait.String())
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, wait+c.o.Timeout)
			defer cancel()
		}
	}
	return c.do(ctx, &c.local, q)
}

func (c Local) decodeDocument(res *response) (Document, error) {
	out := Document{ETag: res.header.Get("Etag"), Source: res.header.Get("X-Config-Source"), Age: -1, Body: res.body}
	if s, err := strconv.ParseFloat(res.header.Get("X-Config-Age"), 64); err == nil {
		out.Age = time.Duration(s * float64(time.Second))
	}
	err := c.local.into(res, &out.ReadResponse)
	return out, err
}

// Key reads the value of one key as JSON.
func (c Local) Key(ctx context.Context, service, key string) (json.RawMessage, error) {
	return c.text(ctx, &c.local, nil, "v1", "config", service, key)
}

// Raw reads the value of one key as text: a string without its quotes.
func (c Local) Raw(ctx context.Context, service, key string) (string, error) {
	body, err := c.text(ctx, &c.local, url.Values{"raw": {""}}, "v1", "config", service, key)
	return string(body), err
}

// Env reads the configuration of a service as lines of a .env file. query has
// further parameters of that route, and may be nil.
func (c Local) Env(ctx context.Context, service string, query url.Values) (string, error) {
	body, err := c.text(ctx, &c.local, query, "v1", "env", service)
	return string(body), err
}

// Keys reads the public keys that verify signed updates.
func (c Local) Keys(ctx context.Context) (json.RawMessage, error) {
	return c.text(ctx, &c.local, nil, "v1", "keys")
}

// Ready returns why the agent has no configuration to serve; nil when it has.
func (c Local) Ready(ctx context.Context) error {
	_, err := c.text(ctx, &c.local, nil, "readyz")
	return err
}

// LocalHealth reads the health of the agent from its local API.
func (c Local) LocalHealth(ctx context.Context) (conf.Health, error) {
	var out conf.Health
	body, err := c.text(ctx, &c.local, nil, "healthz")
	if err == nil {
		err = json.Unmarshal(body, &out)
	}
	return out, err
}

// Live returns an error when the agent's local API does not respond.
func (c Local) Live(ctx context.Context) error {
	_, err := c.text(ctx, &c.local, nil, "healthz")
	return err
}
