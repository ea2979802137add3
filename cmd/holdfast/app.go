package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// app is one run of the command line: its streams, its environment, and the
// flags that every command has. It is used by one goroutine.
type app struct {
	in        io.Reader
	out, err  io.Writer
	lookupEnv func(string) (string, bool)

	adminURL, localURL, token string
	dataDir, envFile          string
	output                    choice

	started bool           // a command's own code runs: what fails now is no usage error
	opts    *agent.Options // resolved once, by options
	noEnv   error          // why the .env file could not be read
	garbage sync.Once      // for collectLate, once in a process
}

// run carries out one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started && conf.CodeOf(err) == conf.CodeInternal {
		err = usageError(cmd, "%s", err.Error())
	}
	report(a.err, err)
	return exitCode(err)
}

// usageError is a mistake in how cmd was called.
func usageError(cmd *cobra.Command, format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeUsage, format, args...).WithHint("%s --help shows how to call it", cmd.CommandPath())
}

// options are the settings of the agent that this command talks to: the same
// flags, environment and .env file that the agent itself has.
func (a *app) options() (*agent.Options, error) {
	if a.opts != nil {
		return a.opts, nil
	}
	given := map[string]string{"data-dir": a.dataDir, "env-file": a.envFile}
	flag := func(name string) (string, bool) { v := given[name]; return v, v != "" }
	env := func(name string) (string, bool) { v, _ := a.lookupEnv(name); return v, v != "" } // empty is unset, as for the agent's keys
	o := agent.Defaults()
	err := o.Resolve(flag, env)
	if errors.Is(err, fs.ErrPermission) && a.envFile == "" {
		// Another user's agent: its keys are not ours to read, its addresses
		// are still the default ones or in the environment.
		a.noEnv = err
		o = agent.Defaults()
		given["env-file"] = os.DevNull
		err = o.Resolve(flag, env)
	}
	if err != nil {
		return nil, err
	}
	a.opts = &o
	return a.opts, nil
}

// apiToken finds the token to show to the admin API. Strongest first: --token,
// CONFIG_API_TOKEN, and the first of CONFIG_API_TOKENS that has the role.
func (a *app) apiToken(need conf.Role) (string, error) {
	if a.token != "" {
		return a.token, nil
	}
	o, err := a.options()
	if err != nil {
		return "", err
	}
	if t, ok := o.LookupEnv("CONFIG_API_TOKEN"); ok && t != "" {
		return t, nil
	}
	list, _ := o.LookupEnv("CONFIG_API_TOKENS")
	if t := pickToken(list, need); t != "" {
		return t, nil
	}
	e := conf.Errorf(conf.CodeUnauthenticated, "this needs an API token with the role %s, and none is set", need)
	e.Err = a.noEnv
	return "", e.WithHint("set CONFIG_API_TOKEN in the environment, or run where the agent's .env file is (--data-dir, --env-file)")
}

// pickToken takes the first token of a CONFIG_API_TOKENS list that has exactly
// the role, else the first that includes it.
func pickToken(list string, need conf.Role) string {
	weaker := ""
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		i := strings.LastIndexByte(entry, ':')
		if i <= 0 {
			continue
		}
		role := conf.Role(strings.TrimSpace(entry[i+1:]))
		if role == need {
			return entry[:i]
		}
		if weaker == "" && role.Allows(need) {
			weaker = entry[:i]
		}
	}
	return weaker
}

// local is a client of the local API, which needs no token.
func (a *app) local() (*client.Client, error) { return a.connect("") }

// admin is a client of the admin API with a token that has the role.
func (a *app) admin(need conf.Role) (*client.Client, error) {
	token, err := a.apiToken(need)
	if err != nil {
		return nil, err
	}
	return a.connect(token)
}

// connect makes a client of the agent, with an API token or without one.
func (a *app) connect(token string) (*client.Client, error) {
	co, err := a.clientOptions()
	if err != nil {
		return nil, err
	}
	co.Token = token
	return client.New(co)
}

// localWithSecrets is a client of the local API that proves that its user may
// see secrets, by the token file in the data directory.
func (a *app) localWithSecrets() (*client.Client, error) {
	co, err := a.clientOptions()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(a.opts.DataDir, "local-token")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, conf.Errorf(conf.CodeDenied, "secrets need the agent's token file: %w", err).
			WithHint("run as a user that may read it, and point to it with --data-dir")
	}
	co.LocalToken = strings.TrimSpace(string(data))
	return client.New(co)
}

func (a *app) clientOptions() (client.Options, error) {
	o, err := a.options()
	if err != nil {
		return client.Options{}, err
	}
	return client.Options{
		AdminURL:  cmp.Or(a.adminURL, o.AdminURL()),
		LocalURL:  cmp.Or(a.localURL, o.LocalURL()),
		UserAgent: "holdfast/" + buildInfo().Version,
	}, nil
}
