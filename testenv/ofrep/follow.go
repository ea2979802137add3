package ofrep

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// all is the answer with all flags.
type all struct {
	Flags        []answer `json:"flags"`
	EventStreams []struct {
		Type     string `json:"type"`
		URL      string `json:"url"`
		Endpoint struct {
			Origin     string `json:"origin"`
			RequestURI string `json:"requestUri"`
		} `json:"endpoint"`
	} `json:"eventStreams"`
}

// fetch asks for all flags; etag is that of the event that leads to it. It returns the
// streams to follow, none when nothing has changed.
func (p *Provider) fetch(ctx context.Context, etag string) (streams []string, err error) {
	path := "/ofrep/v1/evaluate/flags"
	if etag != "" {
		path += "?flagConfigEtag=" + url.QueryEscape(etag)
	}
	p.mu.Lock()
	had := p.etag
	p.mu.Unlock()
	resp, data, err := p.post(ctx, path, had, nil)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotModified:
		return nil, nil
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, &openfeature.ProviderInitError{ErrorCode: openfeature.ProviderFatalCode, Message: string(data)}
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("all flags: %d %s", resp.StatusCode, data)
	}
	var got all
	if err := json.Unmarshal(data, &got); err != nil {
		return nil, err
	}
	flags := map[string]answer{}
	for _, a := range got.Flags {
		flags[a.Key] = a
	}
	p.mu.Lock()
	p.flags, p.etag = flags, resp.Header.Get("ETag")
	p.mu.Unlock()
	for _, s := range got.EventStreams {
		switch {
		case s.Type != "sse":
		case s.URL != "":
			streams = append(streams, s.URL)
		case s.Endpoint.Origin != "":
			streams = append(streams, s.Endpoint.Origin+s.Endpoint.RequestURI)
		default:
			base, err := url.Parse(p.Base)
			if err != nil {
				return nil, err
			}
			streams = append(streams, base.Scheme+"://"+base.Host+s.Endpoint.RequestURI)
		}
	}
	return streams, nil
}

// tell reports an event to the SDK.
func (p *Provider) tell(kind openfeature.EventType) {
	p.changes <- openfeature.Event{ProviderName: "ofrep", EventType: kind}
}

// follow asks for all flags again when the stream says so, until ctx ends.
func (p *Provider) follow(ctx context.Context, stream string) {
	defer close(p.done)
	last := ""
	for ctx.Err() == nil {
		_ = p.read(ctx, stream, &last)
		if ctx.Err() != nil {
			return
		}
		p.tell(openfeature.ProviderStale)
		for ctx.Err() == nil {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			if p.refetch(ctx, "") == nil {
				p.tell(openfeature.ProviderReady)
				break
			}
		}
	}
}

// refetch takes over all flags, and tells of a change.
func (p *Provider) refetch(ctx context.Context, etag string) error {
	streams, err := p.fetch(ctx, etag)
	if err == nil && streams != nil {
		p.tell(openfeature.ProviderConfigChange)
	}
	return err
}

// read follows the stream until it ends.
func (p *Provider) read(ctx context.Context, stream string, last *string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, stream, nil)
	if err != nil {
		return err
	}
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	resp, err := (&http.Client{Transport: p.Transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the stream: %d", resp.StatusCode)
	}
	name, data, id := "", "", ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data += value
		case lines.Text() == "" && data != "":
			var e struct{ Type, ETag string }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return err
			}
			if name == "message" && e.Type == "refetchEvaluation" {
				*last = id
				if err := p.refetch(ctx, e.ETag); err != nil {
					return err
				}
			}
			name, data, id = "", "", ""
		}
	}
	return nil
}
