package doors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/envfile"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/supervise"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// debounce is how long the configuration has to stay the same before a change counts.
const debounce = 2 * time.Second

// Exec returns the command holdfast exec.
func Exec(a *cli.App) *cobra.Command {
	var e environment
	var onChange string
	var wait, grace time.Duration
	cmd := &cobra.Command{
		Use:   "exec SERVICE -- COMMAND...",
		Short: "Run a command with a configuration in its environment, and restart it on changes",
		Long: `Run a command with the configuration of a service as environment variables. When a
variable changes, the command is told to end (TERM to its process group, KILL after the
grace) and started again with the new ones. Keys are in upper case, dots become _.

The exit code is that of the command, or 128 and the signal that ended it; 127 when it is
not found, 126 when it cannot be run, and 125 when holdfast itself fails.`,
		Example: `  holdfast exec stt-worker -- python -m stt_worker
  holdfast exec stt-worker --on-change signal=HUP -- nginx -g 'daemon off;'
  holdfast exec stt-worker --secrets --pristine -- ./stt-worker`,
		ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.BoolVar(&e.secrets, "secrets", false, "include secrets; needs the agent's local-token file")
	f.StringVar(&e.prefix, "prefix", "", "put this before each name")
	f.StringSliceVar(&e.only, "only", nil, "only these `KEYS`, comma separated")
	f.BoolVar(&e.pristine, "pristine", false, "pass nothing else of this environment on")
	f.DurationVar(&wait, "wait", 30*time.Second, "wait this long for the first configuration")
	f.StringVar(&onChange, "on-change", "restart", "restart, signal=HUP (or another one), exit or ignore")
	f.DurationVar(&grace, "grace", 10*time.Second, "time between TERM and KILL")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		n := cmd.ArgsLenAtDash()
		if n != 1 || len(args) < 2 {
			return cli.UsageError(cmd, "write it as holdfast exec SERVICE -- COMMAND...")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		action, err := supervise.ParseAction(onChange)
		if err != nil {
			return own(a, err)
		}
		if e.client, err = a.Local(e.secrets); err != nil {
			return own(a, err)
		}
		e.service, e.base = args[0], os.Environ()
		log := slog.New(slog.NewTextHandler(a.Err, nil))
		said := &verdict{service: e.service, log: log}
		if c, err := a.Local(true); err == nil {
			said.client = c
		}
		e.before = said.note
		env, err := e.first(cmd.Context(), wait)
		if err != nil {
			return own(a, err)
		}
		// A signal is the child's: the configuration is followed until it has ended.
		ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
		defer cancel()
		go said.watch(ctx)
		var changes chan []string
		if !action.Ignores() {
			changes = make(chan []string)
			go e.follow(ctx, env, changes, log)
		}
		code, err := supervise.Run(cmd.Context(), supervise.Options{
			Command: args[1:], Env: env, Changes: changes, OnChange: action, Grace: grace, Log: log,
		})
		if err != nil {
			fmt.Fprintln(a.Err, "holdfast exec:", err)
		}
		if code == 0 {
			return nil
		}
		if err == nil {
			said.ended(context.WithoutCancel(cmd.Context()), code)
		}
		return cli.QuietExit(code)
	}
	return cmd
}

// own is the end of a command that did not come to run its child.
func own(a *cli.App, err error) error {
	if errors.Is(err, context.Canceled) {
		return cli.QuietExit(128 + 15)
	}
	text := err.Error()
	if hint := conf.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	fmt.Fprintln(a.Err, "holdfast exec:", text)
	return cli.QuietExit(supervise.ExitOwn)
}

// environment is how the environment of the child is made.
type environment struct {
	client   *client.Client
	service  string
	base     []string // of this process
	prefix   string
	only     []string
	secrets  bool
	pristine bool

	before func(context.Context) // called before the environment is read
}

// first reads the environment, and waits for the agent and the configuration.
func (e *environment) first(ctx context.Context, wait time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errNoFirst)
	defer cancel()
	var last error
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		env, err := e.read(ctx)
		if err == nil {
			return env, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if permanent(err) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errNoFirst) {
				return nil, cause
			}
			return nil, conf.Errorf(conf.CodeReadOnly, "no configuration of %s in %s: %w", e.service, wait, last).
				WithHint("is the agent running? --wait sets how long to wait for it")
		}
	}
}

var errNoFirst = errors.New("no configuration in time")

// permanent reports whether asking again cannot help. A service may appear.
func permanent(err error) bool {
	switch conf.CodeOf(err) {
	case conf.CodeMalformed, conf.CodeInvalid, conf.CodeUnauthenticated, conf.CodeDenied, conf.CodeMethod, conf.CodeUsage:
		return true
	default:
		return false
	}
}

// read asks for the variables and adds them to the environment of this process.
func (e *environment) read(ctx context.Context) ([]string, error) {
	if e.before != nil {
		e.before(ctx)
	}
	query := url.Values{"format": {"sh"}}
	if e.prefix != "" {
		query.Set("prefix", e.prefix)
	}
	text, err := e.client.Env(ctx, e.service, query)
	if err != nil {
		return nil, err
	}
	vars, err := envfile.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(e.only) > 0 {
		if vars, err = e.pick(vars); err != nil {
			return nil, err
		}
	}
	if e.pristine {
		return envfile.Merge(nil, vars), nil
	}
	return envfile.Merge(e.base, vars), nil
}

// pick keeps the variables of the keys of --only.
func (e *environment) pick(vars map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range e.only {
		name := e.prefix + conf.VariableName(key)
		v, ok := vars[name]
		if !ok {
			return nil, conf.Errorf(conf.CodeUsage, "--only %s: %s has no such value", key, e.service).WithHint("see them: holdfast env %s", e.service)
		}
		out[name] = v
	}
	return out, nil
}

// follow sends the environment whenever it differs, as soon as it has been the same for a
// moment. What the agent cannot say now is asked again.
func (e *environment) follow(ctx context.Context, have []string, out chan<- []string, log *slog.Logger) {
	defer close(out)
	news := make(chan struct{}, 1)
	go func() {
		defer close(news)
		for event, err := range e.client.Watch(ctx, e.service) {
			if err != nil || event.Gone {
				log.Warn("the configuration cannot be followed: the command keeps its environment", "service", e.service, "err", err)
				continue
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}()
	for range news {
		if !quiet(ctx, news) {
			return
		}
		env, err := e.read(ctx)
		for pause := debounce; err != nil; env, err = e.read(ctx) {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
		if slices.Equal(env, have) {
			continue
		}
		have = env
		select {
		case out <- env:
		case <-ctx.Done():
			return
		}
	}
}

// quiet returns when nothing has come for the time of the debounce.
func quiet(ctx context.Context, news <-chan struct{}) bool {
	for {
		select {
		case _, ok := <-news:
			if !ok {
				return false
			}
		case <-time.After(debounce):
			return true
		case <-ctx.Done():
			return false
		}
	}
}
