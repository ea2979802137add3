package options

import (
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Variables that the agent reads, or that usually hold credentials of its host and not of
// a service. A schema is written by a caller that may change configuration, and must not
// get their values out.
var (
	ownPrefixes    = []string{"CONFIG_", "LITESTREAM_", "LKG_HMAC_", "HOLDFAST_"}
	hostPrefixes   = strings.Fields(`AWS_ AZURE_ ARM_ GOOGLE_ GCP_ GCLOUD_ CLOUDSDK_ ALICLOUD_ ALIBABA_CLOUD_ OCI_ DIGITALOCEAN_ HCLOUD_ LINODE_ CLOUDFLARE_ GITHUB_ GH_ GITLAB_ BITBUCKET_ CI_ DOCKER_ KUBE HELM_ CONSUL_HTTP_ NOMAD_ TF_ TERRAFORM_ ANSIBLE_ NPM_ YARN_ PIP_ TWINE_ CARGO_ GPG_ SSH_ KRB5 RCLONE_ RESTIC_ BORG_ MINIO_`)
	hostNames      = strings.Fields(`VAULT_TOKEN VAULT_ROLE_ID VAULT_SECRET_ID VAULT_CLIENT_KEY NODE_AUTH_TOKEN REDISCLI_AUTH PGPASSWORD PGPASSFILE PGSERVICEFILE MYSQL_PWD HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY SUDO_ASKPASS`)
	neverServed    = []string{"CONFIG_API_TOKEN", "CONFIG_JOIN_TOKEN"}
	envNamePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// never reports whether a variable holds keys or tokens of the agent, which no setting
// gives to a service.
func never(name string) bool { return keys.Own(name) || slices.Contains(neverServed, name) }

// EnvAllowed reports whether a field of the service may have its value from the variable:
// one that CONFIG_ENV_ALLOW lists, or one that is neither the agent's own, nor usually a
// credential of the host, nor listed for other services only.
func (o *Options) EnvAllowed(service, name string) bool {
	if never(name) {
		return false
	}
	listed := false
	for entry := range o.envAllow() {
		of, variable, limited := strings.Cut(entry, ":")
		switch {
		case !limited && entry == name, limited && variable == name && of == service:
			return true
		case limited && variable == name:
			listed = true
		}
	}
	return !listed && !o.reserved(name)
}

// reserved reports whether a variable is a setting of the agent, or usually a credential
// of the host.
func (o *Options) reserved(name string) bool {
	upper := strings.ToUpper(name) // http_proxy
	starts := func(prefix string) bool { return strings.HasPrefix(upper, prefix) }
	return slices.ContainsFunc(ownPrefixes, starts) || slices.ContainsFunc(hostPrefixes, starts) || slices.Contains(hostNames, upper) ||
		slices.ContainsFunc(Settings(&Options{}), func(s Setting) bool { return s.Env == upper })
}

// envAllow yields the entries of CONFIG_ENV_ALLOW.
func (o *Options) envAllow() func(func(string) bool) {
	return func(yield func(string) bool) {
		for entry := range strings.SplitSeq(o.EnvAllow, ",") {
			if entry = strings.TrimSpace(entry); entry != "" && !yield(entry) {
				return
			}
		}
	}
}

func (o *Options) checkEnvAllow() error {
	for entry := range o.envAllow() {
		service, name, limited := strings.Cut(entry, ":")
		if !limited {
			name = service
		}
		switch {
		case limited && conf.CheckService(service) != nil, !envNamePattern.MatchString(name):
			return conf.Errorf(conf.CodeUsage, "CONFIG_ENV_ALLOW: %q is not the name of a variable", entry).
				WithHint("use names with commas between them, such as AWS_REGION, or SERVICE:NAME for one service only")
		case never(name):
			return conf.Errorf(conf.CodeUsage, "CONFIG_ENV_ALLOW: %s is a key or a token of the agent, which no service may have", name).
				WithHint("remove it from the list, and give the service a variable of its own")
		}
	}
	return nil
}
