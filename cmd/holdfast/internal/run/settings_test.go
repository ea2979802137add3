package run

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// Each setting is a flag of agent and of dev, its usage names the variable, and
// what the flag says reaches Options.
func TestEverySettingIsAFlag(t *testing.T) {
	var o options.Options
	for _, s := range options.Settings(&o) {
		a := &cli.App{LookupEnv: func(string) (string, bool) { return "", false }}
		for _, cmd := range []*cobra.Command{Agent(a), Dev(a)} {
			f := cmd.Flags().Lookup(s.Flag)
			if f == nil {
				t.Errorf("%s has no --%s", cmd.Name(), s.Flag)
				continue
			}
			if !strings.Contains(f.Usage, s.Env) {
				t.Errorf("--%s does not name %s", s.Flag, s.Env)
			}
		}
	}
	cmd := &cobra.Command{}
	settings := AddSettings(cmd)
	if err := cmd.ParseFlags([]string{"--allow-auto-rebuild", "--manager-port", "9", "--data-dir", t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CONFIG_MANAGER_PORT": "8", "CONFIG_LOG_FORMAT": "json"}
	lookup := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	if err := settings.Options.Resolve(settings.given(cmd), lookup); err != nil {
		t.Fatal(err)
	}
	opts := settings.Options
	if got := []string{opts.ManagerPort, opts.LogFormat}; !cmp.Equal(got, []string{"9", "json"}) || !opts.AllowAutoRebuild {
		t.Errorf("flags and environment gave %v, rebuild %v", got, opts.AllowAutoRebuild)
	}
}
