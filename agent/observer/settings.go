package observer

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// splitList splits a comma separated list, without empty elements.
func splitList(s string) (out []string) {
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

// trustedKeys reads CONFIG_TRUST: keys, or files with keys. A PEM block has no
// comma, so a list can have several.
func trustedKeys(o options.Options) (out []ed25519.PublicKey, err error) {
	list := splitList(o.Trust)
	if len(list) == 0 {
		if text, ok := o.LookupEnv(keys.EnvPublicKey); ok && text != "" {
			list = []string{text}
		}
	}
	if len(list) == 0 {
		return nil, conf.Errorf(conf.CodeUsage, "an observer needs the public key of the cluster").
			WithHint("give it with --trust: PEM, base64, or a file; `curl --noproxy '*' http://127.0.0.1:2770/v1/keys` beside a member shows it. Bring it on a path that you trust, not through the broker")
	}
	for _, text := range list {
		data := []byte(text)
		if _, err := os.Stat(text); err == nil && !strings.Contains(text, "\n") {
			if data, err = os.ReadFile(text); err != nil {
				return nil, conf.Errorf(conf.CodeUsage, "CONFIG_TRUST: %w", err)
			}
		}
		more, err := client.ParseKeys(data)
		if err != nil {
			return nil, conf.Errorf(conf.CodeUsage, "CONFIG_TRUST: neither a key nor a file with one: %w", err).
				WithHint("give an Ed25519 public key as PEM, as base64, or as a file; several separated by commas")
		}
		out = append(out, more...)
	}
	return out, nil
}

// withPublicKey returns env with the public key set to pub, so that keys are loaded
// as those of an agent without another key of the cluster.
func withPublicKey(env func(string) (string, bool), pub ed25519.PublicKey) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name != keys.EnvPublicKey {
			return env(name)
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err == nil
	}
}
