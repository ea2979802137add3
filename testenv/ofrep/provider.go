package ofrep

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"
)

// Provider is a provider for the SDK. It asks for each flag when the program does; with
// Cached it keeps all flags and follows their changes.
type Provider struct {
	Base      string // URL of the agent, with /s/SERVICE for another service than its own
	Cached    bool
	Transport http.RoundTripper
	Headers   map[string]string

	mu      sync.Mutex
	flags   map[string]answer
	etag    string
	stop    context.CancelFunc
	done    chan struct{}
	changes chan openfeature.Event
}

// answer is an evaluation, or a failure.
type answer struct {
	Key          string          `json:"key"`
	Value        json.RawMessage `json:"value"`
	Reason       string          `json:"reason"`
	Variant      *string         `json:"variant"`
	Metadata     map[string]any  `json:"metadata"`
	ErrorCode    string          `json:"errorCode"`
	ErrorDetails *string         `json:"errorDetails"`
}

// Metadata implements openfeature.FeatureProvider.
func (p *Provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "ofrep"} }

// Hooks implements openfeature.FeatureProvider.
func (p *Provider) Hooks() []openfeature.Hook { return nil }

// EventChannel implements openfeature.EventHandler.
func (p *Provider) EventChannel() <-chan openfeature.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes == nil {
		p.changes = make(chan openfeature.Event, 16)
	}
	return p.changes
}

// Init implements openfeature.StateHandler: it asks for all flags once.
func (p *Provider) Init(openfeature.EvaluationContext) error {
	streams, err := p.fetch(context.Background(), "")
	if err != nil || !p.Cached {
		return err
	}
	if len(streams) == 0 {
		return fmt.Errorf("no event streams")
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.done = cancel, make(chan struct{})
	p.EventChannel()
	go p.follow(ctx, streams[0])
	return nil
}

// Shutdown implements openfeature.StateHandler.
func (p *Provider) Shutdown() {
	if p.stop != nil {
		p.stop()
		<-p.done
	}
}

// post asks one question.
func (p *Provider) post(ctx context.Context, path, etag string, about map[string]any) (*http.Response, []byte, error) {
	question := map[string]any{}
	if about != nil {
		question["context"] = about
	}
	body, err := json.Marshal(question)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	for name, value := range p.Headers {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: p.Transport}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return resp, data, err
}

// ask returns the answer for a flag.
func (p *Provider) ask(ctx context.Context, key string, about openfeature.FlattenedContext) (answer, *openfeature.ResolutionError) {
	if p.Cached {
		p.mu.Lock()
		defer p.mu.Unlock()
		a, ok := p.flags[key]
		if !ok {
			e := openfeature.NewFlagNotFoundResolutionError("it is not among all flags")
			return a, &e
		}
		return a, nil
	}
	var a answer
	resp, data, err := p.post(ctx, "/ofrep/v1/evaluate/flags/"+key, "", about)
	if err == nil && resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		err = json.Unmarshal(data, &a)
	}
	var e openfeature.ResolutionError
	switch {
	case err != nil:
		e = openfeature.NewGeneralResolutionError(err.Error())
	case resp.StatusCode == http.StatusOK && a.Variant != nil && a.Metadata != nil && a.Key == key:
		return a, nil
	case a.ErrorDetails == nil || a.Metadata == nil || a.Key != key:
		e = openfeature.NewParseErrorResolutionError(fmt.Sprintf("%d without what each answer has: %s", resp.StatusCode, data))
	case resp.StatusCode == http.StatusNotFound:
		e = openfeature.NewFlagNotFoundResolutionError(*a.ErrorDetails)
	case a.ErrorCode == string(openfeature.ParseErrorCode):
		e = openfeature.NewParseErrorResolutionError(*a.ErrorDetails)
	case a.ErrorCode == string(openfeature.InvalidContextCode):
		e = openfeature.NewInvalidContextResolutionError(*a.ErrorDetails)
	default:
		e = openfeature.NewGeneralResolutionError(*a.ErrorDetails)
	}
	return a, &e
}

// resolve is the evaluation of a flag of the type T.
func resolve[T any](ctx context.Context, p *Provider, key string, byDefault T, about openfeature.FlattenedContext) openfeature.GenericResolutionDetail[T] {
	out := openfeature.GenericResolutionDetail[T]{Value: byDefault}
	fail := func(e openfeature.ResolutionError) openfeature.GenericResolutionDetail[T] {
		out.ResolutionError, out.Reason = e, openfeature.ErrorReason
		return out
	}
	a, e := p.ask(ctx, key, about)
	if e != nil {
		return fail(*e)
	}
	out.Reason, out.Variant, out.FlagMetadata = openfeature.Reason(a.Reason), *a.Variant, a.Metadata
	if a.Value == nil { // the default of the code
		return out
	}
	value, err := typed(a.Value)
	if err != nil {
		return fail(openfeature.NewParseErrorResolutionError(err.Error()))
	}
	got, ok := value.(T)
	if _, object := value.(map[string]any); !ok || isAny(byDefault) && !object {
		return fail(openfeature.NewTypeMismatchResolutionError(fmt.Sprintf("the value is a %T", value)))
	}
	out.Value = got
	return out
}

// isAny reports whether a flag of an object is asked for.
func isAny[T any](v T) bool {
	_, is := any(&v).(*any)
	return is
}

// typed is a value in the type that its spelling has.
func typed(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	n, ok := v.(json.Number)
	switch {
	case !ok:
		return v, nil
	case strings.ContainsAny(n.String(), ".eE"):
		return n.Float64()
	default:
		return n.Int64()
	}
}

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *Provider) BooleanEvaluation(ctx context.Context, flag string, byDefault bool, about openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return resolve(ctx, p, flag, byDefault, about)
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *Provider) StringEvaluation(ctx context.Context, flag, byDefault string, about openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(ctx, p, flag, byDefault, about)
}

// FloatEvaluation implements openfeature.FeatureProvider.
func (p *Provider) FloatEvaluation(ctx context.Context, flag string, byDefault float64, about openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(ctx, p, flag, byDefault, about)
}

// IntEvaluation implements openfeature.FeatureProvider.
func (p *Provider) IntEvaluation(ctx context.Context, flag string, byDefault int64, about openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(ctx, p, flag, byDefault, about)
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (p *Provider) ObjectEvaluation(ctx context.Context, flag string, byDefault any, about openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return resolve(ctx, p, flag, byDefault, about)
}
