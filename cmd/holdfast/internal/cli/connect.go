package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
)

// Options returns the settings of the agent that this command talks to: the same
// flags, environment and .env file that the agent itself has.
func (a *App) Options() (*options.Options, error) {
	if a.opts != nil {
		return a.opts, nil
	}
	given := map[string]string{"data-dir": a.dataDir, "env-file": a.envFile}
	flag := func(name string) (string, bool) { v := given[name]; return v, v != "" }
	env := func(name string) (string, bool) { v, _ := a.LookupEnv(name); return v, v != "" } // empty is unset, as for the agent's keys
	o := options.Defaults()
	err := o.ResolveTrusted(flag, env, trustedEnv(a))
	untrusted := errors.Is(err, options.ErrUntrusted)
	if (untrusted || errors.Is(err, fs.ErrPermission)) && a.envFile == "" {
		// An agent of another user: this user cannot read its keys, or must not send
		// tokens to where its file points, but its addresses are the default ones or in
		// the environment.
		a.envErr = err
		if untrusted {
			notRead(a.Err, err)
		}
		o = options.Defaults()
		err = o.ResolveWithoutFile(flag, env)
	}
	if err == nil && !untrusted && a.envFile == "" {
		err = findRunning(a, &o, env)
	}
	if err != nil {
		return nil, err
	}
	a.opts = &o
	return a.opts, nil
}

// findRunning takes the addresses that the agent of the data directory listens on, which
// its flags may have set. Without them those of the settings hold.
func findRunning(a *App, o *options.Options, env func(string) (string, bool)) error {
	err := o.ResolveListening(env, trustedEnv(a))
	if errors.Is(err, options.ErrUntrusted) {
		notRead(a.Err, err)
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil // an agent of another user, with the usual addresses
	}
	return err
}

// notRead says which settings do not count because others control them.
func notRead(w io.Writer, err error) {
	fmt.Fprintf(w, "holdfast: settings not read: %s\n", Clean(err.Error()))
	fmt.Fprintf(w, "hint: %s\n", Runnable(Clean(conf.HintOf(err))))
}

// trustedEnv returns what reports whether a .env file of an owner may say where tokens and
// secrets are sent. A file that the user names with --env-file is accepted from any owner,
// as ssh accepts the one of -F.
func trustedEnv(a *App) func(uid uint32) bool {
	return func(uid uint32) bool { return TrustedOwner(a, uid) || a.envFile != "" }
}

// TrustedOwner reports whether files of this owner may say what this command does: the
// user's own, as for git those of the one before sudo, and root's.
func TrustedOwner(a *App, uid uint32) bool {
	if os.Geteuid() == 0 {
		if sudo, ok := a.LookupEnv("SUDO_UID"); ok && sudo == strconv.FormatUint(uint64(uid), 10) {
			return true
		}
	}
	return trust.Self(uid)
}

// secret returns a secret setting from the environment or the .env file.
func (a *App) secret(name string) (string, error) {
	o, err := a.Options()
	if err != nil {
		return "", err
	}
	v, _ := o.LookupEnv(name)
	return v, nil
}

// noToken is the error for a token that is not set; name is its variable.
func (a *App) noToken(what, name string) error {
	e := conf.Errorf(conf.CodeUnauthenticated, "this needs %s, and none is set", what)
	e.Err = a.envErr
	return e.WithHint("set %s in the environment, or run where the agent's .env file is (--data-dir, --env-file)", name)
}

// RebuildToken returns the token that a rebuild needs.
func (a *App) RebuildToken() (string, error) {
	t, err := a.secret("REBUILD_TOKEN")
	if err == nil && t == "" {
		err = a.noToken("the rebuild token", "REBUILD_TOKEN")
	}
	return t, err
}

// apiToken returns the token for the admin API. In this order: --token,
// CONFIG_API_TOKEN, the first token of CONFIG_API_TOKENS that has the role.
func (a *App) apiToken(need conf.Role) (string, error) {
	if a.token != "" {
		return a.token, nil
	}
	if t, err := a.secret("CONFIG_API_TOKEN"); err != nil || t != "" {
		return t, err
	}
	list, err := a.secret("CONFIG_API_TOKENS")
	if t := pickToken(list, need); err != nil || t != "" {
		return t, err
	}
	return "", a.noToken("an API token with the role "+string(need), "CONFIG_API_TOKEN")
}

// pickToken takes the first token of a CONFIG_API_TOKENS list that has exactly
// the role, else the first whose role includes it.
func pickToken(list string, need conf.Role) string {
	stronger := ""
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
		if stronger == "" && role.Allows(need) {
			stronger = entry[:i]
		}
	}
	return stronger
}

// Admin returns a client of the admin API with a token that has the role.
func (a *App) Admin(need conf.Role) (*client.Client, error) {
	token, err := a.apiToken(need)
	if err != nil {
		return nil, err
	}
	return a.connect(client.Options{Token: token})
}

// Local returns a client without an API token: for the local API, and for what the
// admin API answers without one. With secrets it sends the token of the agent's
// token file, so that the local API includes them.
func (a *App) Local(secrets bool) (*client.Client, error) {
	if !secrets {
		return a.connect(client.Options{})
	}
	o, err := a.Options()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(o.DataDir, "local-token"))
	if err != nil {
		return nil, conf.Errorf(conf.CodeDenied, "secrets need the agent's token file: %w", err).
			WithHint("run as a user that may read it, and point to it with --data-dir")
	}
	return a.connect(client.Options{LocalToken: strings.TrimSpace(string(data))})
}

func (a *App) connect(co client.Options) (*client.Client, error) {
	o, err := a.Options()
	if err != nil {
		return nil, err
	}
	co.AdminURL, co.LocalURL = cmp.Or(a.adminURL, o.AdminURL()), cmp.Or(a.localURL, o.LocalURL())
	co.AdminTLS = o.AdminTLS()
	co.UserAgent = "holdfast/" + a.Build().Version
	return client.New(co)
}

// IsObserver reports whether the agent is an observer, as far as its settings are
// here.
func (a *App) IsObserver() bool {
	o, err := a.Options()
	return err == nil && o.Role == options.RoleObserver
}
