package options

import (
	"path/filepath"

	"github.com/holdfast-config/holdfast/agent/keys"
)

// ListeningFile is where an agent writes on which addresses it listens, as settings of a
// .env file: the command line finds an agent by it that was started with flags.
func (p *Paths) ListeningFile() string { return filepath.Join(p.DataDir, "listening.env") }

// ResolveListening takes the addresses of the agent that runs, or ran last, in DataDir
// from its ListeningFile, unless env has them. That of the web page is of the same agent, or
// none. It returns ErrUntrusted for a file that
// others control; trusted is as for ResolveTrusted.
func (o *Options) ResolveListening(env func(string) (string, bool), trusted func(uid uint32) bool) error {
	file, err := keys.ReadTrustedEnvFile(o.ListeningFile(), trusted)
	if err != nil {
		return err
	}
	given := func(name string) (string, bool) {
		if _, ok := env(name); ok {
			return "", false
		}
		v, ok := file[name]
		return v, ok
	}
	none := func(string) (string, bool) { return "", false }
	o.UIAddr = "none" // what is set may be taken by another agent: only the file knows
	for _, s := range Settings(o) {
		switch s.Env {
		case "CONFIG_LOCAL_ADDR", "CONFIG_MANAGER_HOST", "CONFIG_MANAGER_PORT", "CONFIG_MANAGER_TLS_CERT", "CONFIG_ROLE":
			if err := apply(s, none, given); err != nil {
				return err
			}
		}
	}
	if v := file["CONFIG_UI_ADDR"]; v != "" && o.ManagerPort == file["CONFIG_MANAGER_PORT"] {
		o.UIAddr = v
	}
	return nil
}
