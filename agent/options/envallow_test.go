package options

import (
	"testing"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestEnvAllowed(t *testing.T) {
	for _, tc := range []struct {
		name, allow string
		want        bool
	}{
		{name: "DEMO_KEY", want: true},
		{name: "VAULT_API_KEY", want: true},
		{name: "DB_PASSWORD", want: true},
		{name: "AWS_SECRET_ACCESS_KEY"},
		{name: "aws_secret_access_key"},
		{name: "AWS_SECRET_ACCESS_KEY", allow: "AWS_SECRET_ACCESS_KEY", want: true},
		{name: "AWS_SECRET_ACCESS_KEY", allow: "X, vault:AWS_SECRET_ACCESS_KEY", want: true},
		{name: "AWS_SECRET_ACCESS_KEY", allow: "other:AWS_SECRET_ACCESS_KEY"},
		{name: "AWS_SESSION_TOKEN", allow: "AWS_SECRET_ACCESS_KEY"},
		{name: "DB_PASSWORD", allow: "DEMO_KEY", want: true},
		{name: "DB_PASSWORD", allow: "other:DB_PASSWORD"},
		{name: "DB_PASSWORD", allow: "other:DB_PASSWORD,vault:DB_PASSWORD", want: true},
		{name: "MQTT_URL"},
		{name: "MQTT_URL", allow: "MQTT_URL", want: true},
		{name: "CONFIG_OBSERVE_URL"},
		{name: "CONFIG_MQTT_PASSWORD"},
		{name: "CONFIG_NOT_YET_A_SETTING"},
		{name: "LITESTREAM_ACCESS_KEY_ID"},
		{name: "LITESTREAM_SECRET_ACCESS_KEY"},
		{name: "GITHUB_TOKEN"},
		{name: "VAULT_TOKEN"},
		{name: "https_proxy"},
		{name: "KUBECONFIG"},
		{name: keys.EnvMasterKey, allow: keys.EnvMasterKey},
		{name: "CONFIG_API_TOKEN", allow: "vault:CONFIG_API_TOKEN"},
	} {
		o := Defaults()
		o.EnvAllow = tc.allow
		if got := o.EnvAllowed("vault", tc.name); got != tc.want {
			t.Errorf("CONFIG_ENV_ALLOW=%q: the service may have %s: %t, want %t", tc.allow, tc.name, got, tc.want)
		}
	}
	// Every variable that a setting names is the agent's own.
	o := Defaults()
	for _, s := range Settings(&o) {
		if s.Env != "" && o.EnvAllowed("vault", s.Env) {
			t.Errorf("a service may have the setting %s", s.Env)
		}
	}
	for _, name := range []string{keys.EnvMasterKey, keys.EnvHMACOldKey, keys.EnvPrivateKey, keys.EnvServiceKey, keys.EnvRebuildToken, keys.EnvAPITokens} {
		if o.EnvAllowed("vault", name) {
			t.Errorf("a service may have the key %s", name)
		}
	}
}

func TestEnvAllowIsChecked(t *testing.T) {
	for list, good := range map[string]bool{
		"": true, "AWS_REGION": true, " A , vault:B,": true,
		"A B": false, "AWS_*": false, "vault:": false, ":A": false, "no service:A": false, "CONFIG_API_TOKENS": false, "vault:CONFIG_JOIN_TOKEN": false,
	} {
		o := Defaults()
		o.EnvAllow = list
		if err := o.Complete(); (err == nil) != good || (err != nil && (conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "")) {
			t.Errorf("%q: %v", list, err)
		}
	}
}
