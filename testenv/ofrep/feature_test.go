package ofrep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cucumber/godog"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/holdfast-config/holdfast/testenv"
)

// specFlags puts the flags of the specification into an agent, as a service with a schema:
// those that are no targeting, disabled or without a value.
func specFlags(t *testing.T, a *testenv.Agent, text []byte) {
	t.Helper()
	var flags map[string]struct {
		Disabled         bool
		Variants         map[string]json.RawMessage
		DefaultVariant   string
		ContextEvaluator string
	}
	if err := json.Unmarshal(text, &flags); err != nil {
		t.Fatal(err)
	}
	properties, values := map[string]any{}, map[string]any{}
	for key, f := range flags {
		value := f.Variants[f.DefaultVariant]
		if f.Disabled || f.ContextEvaluator != "" || value == nil {
			continue
		}
		kind, _, _ := strings.Cut(key, "-")
		switch kind {
		case "boolean", "string", "integer", "object":
		case "float":
			kind = "number"
		default:
			kind = map[byte]string{'t': "boolean", '"': "string"}[value[0]]
		}
		properties[key], values[key] = map[string]any{"type": kind}, value
	}
	body, err := json.Marshal(map[string]any{
		"service": "flags", "version": 0, "config": values,
		"schema": map[string]any{"type": "object", "x-keys": "any", "properties": properties},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Admin("PUT", "/api/config/services/flags", string(body), "Content-Type: application/json").OK(t)
	a.AwaitServing("flags")
	t.Logf("%d of %d flags: the others are targeted, disabled or have no value", len(values), len(flags))
}

// The scenarios that need what a configuration does not have: targeting rules (and the
// reason DEFAULT, which OFREP does not have either), metadata of one's own, flags that are
// disabled, a cache in the provider.
const leftOut = "~@targeting && ~@context-handling && ~@metadata && ~@reason-codes-cached && ~@reason-codes-disabled"

// TestSpecification runs the scenarios of OpenFeature's specification by its SDK.
func TestSpecification(t *testing.T) {
	t.Parallel()
	feature, flags := shared(t, "evaluation_v2.feature"), shared(t, "test-flags.json")
	if feature == nil || flags == nil {
		return
	}
	a := testenv.StartProcess(t)
	specFlags(t, a, flags)
	answers := newSpec(t)
	for _, cached := range []bool{false, true} {
		ran := 0
		var printed bytes.Buffer
		suite := godog.TestSuite{
			ScenarioInitializer: func(sc *godog.ScenarioContext) {
				s := &scenario{
					base: "http://" + a.LocalAddr + "/s/flags", cached: cached, spec: answers,
					variant: fmt.Sprint("v", a.Document("flags").Metadata.Version),
				}
				s.steps(sc)
				sc.After(func(ctx context.Context, _ *godog.Scenario, err error) (context.Context, error) {
					ran++
					return ctx, errors.Join(err, s.close())
				})
			},
			Options: &godog.Options{
				Format: "progress", Strict: true, Tags: leftOut, Output: io.Writer(&printed), NoColors: true,
				FeatureContents: []godog.Feature{{Name: "evaluation_v2.feature", Contents: feature}},
			},
		}
		if code := suite.Run(); code != 0 || ran < 50 {
			t.Errorf("cached %t: code %d after %d scenarios:\n%s", cached, code, ran, printed.String())
		}
		t.Logf("cached %t: %d scenarios", cached, ran)
	}
	t.Logf("answers: %v", answers.checked)
}

// scenario is the state of one scenario.
type scenario struct {
	base, variant string
	cached        bool
	spec          *spec

	api      *openfeature.EvaluationAPI
	client   *openfeature.Client
	provider *Provider
	release  chan struct{} // ends the start of a provider that is not ready

	kind, key string
	byDefault any
	about     openfeature.EvaluationContext
	options   []openfeature.Option
	ran       []string // hooks
	got       details
	async     chan details
}

// details are the result of an evaluation, whatever the type.
type details struct {
	value any
	openfeature.EvaluationDetails
}

// waiting is a provider whose start does not end until it is told to.
type waiting struct {
	*Provider
	release chan struct{}
}

func (w waiting) Init(openfeature.EvaluationContext) error {
	<-w.release
	return nil
}

func (s *scenario) close() error {
	if s.release != nil {
		close(s.release)
	}
	if s.api == nil {
		return nil
	}
	return s.api.Shutdown(context.Background())
}

func (s *scenario) steps(sc *godog.ScenarioContext) {
	sc.Step(`^a (stable|not ready|error|fatal|stale) provider$`, s.aProvider)
	sc.Step(`^an? (\w+)-flag with key "([^"]*)" and a fallback value "(.*)"$`, s.aFlag)
	sc.Step(`^the flag was evaluated with details$`, s.evaluate)
	sc.Step(`^the flag was evaluated with details using the evaluation options$`, s.evaluate)
	sc.Step(`^the flag was evaluated with details asynchronously$`, s.evaluateLater)
	sc.Step(`^the evaluation should complete without blocking$`, s.await)
	sc.Step(`^the resolved details value should be "(.*)"$`, s.valueIs)
	sc.Step(`^the reason should be "([^"]*)"$`, func(want string) error { return same("reason", string(s.got.Reason), want) })
	sc.Step(`^the error-code should be "([^"]*)"$`, func(want string) error { return same("error code", string(s.got.ErrorCode), want) })
	sc.Step(`^the flag key should be "([^"]*)"$`, func(want string) error { return same("key", s.got.FlagKey, want) })
	// The variant is the version of the service: its values have no names.
	sc.Step(`^the variant should be "([^"]*)"$`, func(string) error { return same("variant", s.got.Variant, s.variant) })
	sc.Step(`^the provider status should be "([^"]*)"$`, func(want string) error { return same("status", string(s.client.State()), want) })
	sc.Step(`^evaluation options containing specific hooks$`, s.hooks)
	sc.Step(`^the specified hooks should execute during evaluation$`, func() error { return same("hooks", strings.Join(s.ran, " "), "before after finally") })
	sc.Step(`^the hook order should be maintained$`, func() error { return nil })
	sc.Step(`^an evaluation context with modifiable data$`, func() {
		s.about = openfeature.NewEvaluationContext("user-1", map[string]any{"plan": "free"})
	})
	sc.Step(`^the original evaluation context should remain unmodified$`, func() error {
		return same("context", fmt.Sprint(s.about.TargetingKey(), " ", s.about.Attributes()), "user-1 map[plan:free]")
	})
	sc.Step(`^the evaluation details should be immutable$`, s.immutable)
}

func same(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s %q, want %q", what, got, want)
	}
	return nil
}

// aProvider makes a provider in a state that it has for a reason.
func (s *scenario) aProvider(state string) error {
	if s.api == nil {
		s.api = isolated.NewAPI()
	}
	ctx := context.Background()
	p := &Provider{Base: s.base, Cached: s.cached, Transport: s.spec}
	s.provider, s.client = p, s.api.NewClient()
	switch state {
	case "not ready":
		s.release = make(chan struct{})
		return s.api.SetProvider(ctx, waiting{p, s.release})
	case "error": // nobody listens there
		p.Base = "http://127.0.0.1:1"
	case "fatal":
		p.Headers = map[string]string{"X-Holdfast-Token": "wrong"}
	}
	err := s.api.SetProviderAndWait(ctx, p)
	if failed := state == "error" || state == "fatal"; failed != (err != nil) {
		return fmt.Errorf("a provider of the state %s: %w", state, err)
	}
	if state == "stale" {
		stale := make(chan struct{}, 1)
		notice := func(openfeature.EventDetails) { stale <- struct{}{} }
		s.client.AddHandler(openfeature.ProviderStale, &notice)
		p.EventChannel()
		p.tell(openfeature.ProviderStale)
		<-stale
	}
	return nil
}

func (s *scenario) aFlag(kind, key, byDefault string) (err error) {
	s.kind, s.key = kind, key
	s.byDefault, err = s.parse(byDefault)
	return err
}

// parse is a value of the type of the flag.
func (s *scenario) parse(text string) (v any, err error) {
	switch s.kind {
	case "Boolean":
		return strconv.ParseBool(text)
	case "Integer":
		return strconv.ParseInt(text, 10, 64)
	case "Float":
		return strconv.ParseFloat(text, 64)
	case "Object":
		err = json.Unmarshal([]byte(strings.ReplaceAll(text, `\"`, `"`)), &v)
		return v, err
	default:
		return text, nil
	}
}

func (s *scenario) valueIs(text string) error {
	want, err := s.parse(text)
	if err != nil {
		return err
	}
	got := s.got.value
	if s.kind == "Object" { // numbers in it have no type
		data, err := json.Marshal(got)
		if err != nil {
			return err
		}
		got = nil
		if err := json.Unmarshal(data, &got); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("value %#v, want %#v", got, want)
	}
	return nil
}

func (s *scenario) ask() (out details) {
	ctx := context.Background()
	switch v := s.byDefault.(type) {
	case bool:
		d, _ := s.client.BooleanValueDetails(ctx, s.key, v, s.about, s.options...)
		return details{d.Value, d.EvaluationDetails}
	case string:
		d, _ := s.client.StringValueDetails(ctx, s.key, v, s.about, s.options...)
		return details{d.Value, d.EvaluationDetails}
	case int64:
		d, _ := s.client.IntValueDetails(ctx, s.key, v, s.about, s.options...)
		return details{d.Value, d.EvaluationDetails}
	case float64:
		d, _ := s.client.FloatValueDetails(ctx, s.key, v, s.about, s.options...)
		return details{d.Value, d.EvaluationDetails}
	default:
		d, _ := s.client.ObjectValueDetails(ctx, s.key, v, s.about, s.options...)
		return details{d.Value, d.EvaluationDetails}
	}
}

func (s *scenario) evaluate() { s.got = s.ask() }

func (s *scenario) evaluateLater() {
	s.async = make(chan details, 1)
	go func() { s.async <- s.ask() }()
}

func (s *scenario) await() { s.got = <-s.async }

// hook notes when it runs.
type hook struct {
	openfeature.UnimplementedHook
	s *scenario
}

func (h hook) Before(context.Context, openfeature.HookContext, openfeature.HookHints) (*openfeature.EvaluationContext, error) {
	h.s.ran = append(h.s.ran, "before")
	return nil, nil
}

func (h hook) After(context.Context, openfeature.HookContext, openfeature.InterfaceEvaluationDetails, openfeature.HookHints) error {
	h.s.ran = append(h.s.ran, "after")
	return nil
}

func (h hook) Finally(context.Context, openfeature.HookContext, openfeature.InterfaceEvaluationDetails, openfeature.HookHints) {
	h.s.ran = append(h.s.ran, "finally")
}

func (s *scenario) hooks() { s.options = append(s.options, openfeature.WithHooks(hook{s: s})) }

// immutable changes what one evaluation returned: the next one is as it was.
func (s *scenario) immutable() error {
	before := fmt.Sprint(s.got.FlagMetadata)
	for k := range s.got.FlagMetadata {
		s.got.FlagMetadata[k] = "changed"
	}
	return same("metadata", fmt.Sprint(s.ask().FlagMetadata), before)
}
