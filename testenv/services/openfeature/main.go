// Command openfeature is a service that knows OpenFeature and nothing of Holdfast: its
// provider has the URL of OFREP_ENDPOINT. It prints two flags, and again when they change:
// as the provider that keeps all flags has them, and as the one that asks for each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/holdfast-config/holdfast/testenv/ofrep"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for name, cached := range map[string]bool{"cached": true, "asking": false} {
		if err := openfeature.SetNamedProviderAndWait(name, &ofrep.Provider{Base: os.Getenv("OFREP_ENDPOINT"), Cached: cached}); err != nil {
			fmt.Println("no flags:", err)
			os.Exit(1)
		}
	}
	changed := make(chan struct{}, 1)
	cached, asking := openfeature.NewClient("cached"), openfeature.NewClient("asking")
	notice := func(openfeature.EventDetails) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	cached.AddHandler(openfeature.ProviderConfigChange, &notice)
	report := func(kind string) {
		user := openfeature.NewEvaluationContext("user-1", map[string]any{"plan": "free"})
		model, _ := cached.StringValueDetails(ctx, "whisper_model", "of the code", user)
		threshold, _ := cached.FloatValue(ctx, "vad_threshold", -1, user)
		asked, _ := asking.FloatValue(ctx, "vad_threshold", -1, user)
		fmt.Printf("%s whisper_model=%s vad_threshold=%.2f asked=%.2f reason=%s\n", kind, model.Value, threshold, asked, model.Reason)
	}
	report("first")
	for {
		select {
		case <-changed:
			report("update")
		case <-ctx.Done():
			openfeature.Shutdown()
			return
		}
	}
}
