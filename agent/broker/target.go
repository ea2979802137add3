package broker

import (
	"crypto/tls"
	"net"
	"net/url"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// target is an external broker, from MQTT_URL.
type target struct {
	addr     string // host:port
	host     string
	tls      bool
	user     *string
	password *string
}

// parseURL reads MQTT_URL. Its errors never quote the URL, which contains a password.
func parseURL(raw string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, conf.Errorf(conf.CodeUsage, "MQTT_URL is not usable: %s", why).
			WithHint("write mqtt://user:password@host:1883, or mqtts://... for TLS; percent-encode special characters of user and password")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad("it is not a URL")
	}
	t := target{host: u.Hostname()}
	port := u.Port()
	switch u.Scheme {
	case "mqtt":
		if port == "" {
			port = "1883"
		}
	case "mqtts":
		t.tls = true
		if port == "" {
			port = "8883"
		}
	default:
		return bad("its scheme is neither mqtt nor mqtts")
	}
	switch {
	case t.host == "":
		return bad("it names no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return bad("it has more than a host and a port")
	}
	t.addr = net.JoinHostPort(t.host, port)
	if u.User != nil {
		name := u.User.Username()
		t.user = &name
		if p, ok := u.User.Password(); ok {
			t.password = &p
		}
	}
	return t, nil
}

// tlsConfig returns given, nil for the default, for a connection to this broker.
func (t target) tlsConfig(given *tls.Config) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if given != nil {
		config = given.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = t.host
	}
	return config
}
