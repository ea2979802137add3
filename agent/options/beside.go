package options

import (
	"net/url"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// check checks the settings of the service beside the agent.
func (b *Beside) check() error {
	if b.Instance != "" {
		if err := conf.CheckInstance(b.Instance); err != nil {
			return conf.Errorf(conf.CodeUsage, "CONFIG_INSTANCE: %w", err).WithHint("%s", conf.HintOf(err))
		}
	}
	if b.HealthURL != "" && b.HealthCmd != "" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_HEALTH_URL and CONFIG_HEALTH_CMD are both set").WithHint("set one of them")
	}
	if b.HealthURL != "" {
		u, err := url.Parse(b.HealthURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return conf.Errorf(conf.CodeUsage, "CONFIG_HEALTH_URL is not an http or https URL").WithHint("use a value such as http://127.0.0.1:9000/healthz")
		}
	}
	if b.HealthCmd != "" {
		if _, err := Words(b.HealthCmd); err != nil {
			return conf.Errorf(conf.CodeUsage, "CONFIG_HEALTH_CMD: %w", err).WithHint("%s", conf.HintOf(err))
		}
	}
	return nil
}

// Words splits a command at spaces. Single or double quotes keep a part together; there are
// no variables, no escapes and no shell.
func Words(s string) (out []string, err error) {
	var word strings.Builder
	var quote rune
	started := false
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == ' ' || c == '\t':
			if started {
				out = append(out, word.String())
				word.Reset()
			}
			started = false
		default:
			word.WriteRune(c)
			started = true
		}
	}
	if quote != 0 {
		return nil, conf.Errorf(conf.CodeUsage, "a quote is not closed").WithHint("close it, or leave it out")
	}
	if started {
		out = append(out, word.String())
	}
	if len(out) == 0 || out[0] == "" {
		return nil, conf.Errorf(conf.CodeUsage, "there is no command").WithHint("use a value such as: /usr/bin/pgrep -x stt-worker")
	}
	return out, nil
}

// joinLabels is the inverse of conf.ParseLabels.
func joinLabels(labels map[string]string) string {
	var parts []string
	for _, name := range conf.SortedKeys(labels) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, ",")
}
