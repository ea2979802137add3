package testenv

import (
	"encoding/base64"

	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/agent/lkg"
)

// LastKnownGood loads the last-known-good file and its journal, with the key in .env.
func (a *Agent) LastKnownGood() (*lkg.Content, error) {
	env, err := godotenv.Read(a.EnvFile())
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(env["LKG_HMAC_KEY_BASE64"])
	if err != nil {
		return nil, err
	}
	return lkg.Load(a.LKG(), key)
}

// AwaitLKG waits until the last-known-good file and its journal hold the values of s.
func (a *Agent) AwaitLKG(s State) {
	a.t.Helper()
	Await(a.t, "the last-known-good file to hold what is served", func() bool {
		c, err := a.LastKnownGood()
		if err != nil {
			return false
		}
		held := map[string]string{}
		for _, r := range c.Records {
			held[r.Service] = string(r.Config)
		}
		for name, d := range s {
			if held[name] != string(d.Config) {
				return false
			}
		}
		return true
	})
}
