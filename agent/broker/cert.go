package broker

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// certCheck is the minimal interval between two checks of the certificate files.
const certCheck = time.Second

// ServerTLS serves the certificate of two PEM files, for Options.TLS. Changed files are read
// again with the next connection; while they do not match, as during a renewal, the previous
// certificate stays.
func ServerTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certFiles{cert: certFile, key: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "the certificate of the MQTT broker cannot be used: %w", err).
			WithHint("CONFIG_MQTT_TLS_CERT and CONFIG_MQTT_TLS_KEY are PEM files of one certificate (with its chain) and its key")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

type certFiles struct {
	cert, key string
	log       *slog.Logger

	mu        sync.Mutex
	pair      *tls.Certificate
	state     [2]fileState
	lastCheck time.Time
}

type fileState struct {
	size int64
	mod  time.Time
}

func (c *certFiles) states() (s [2]fileState) {
	for i, name := range []string{c.cert, c.key} {
		if fi, err := os.Stat(name); err == nil {
			s[i] = fileState{fi.Size(), fi.ModTime()}
		}
	}
	return s
}

func (c *certFiles) load() error {
	c.state = c.states() // first: a file that changes while it is read is read again
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.pair = &pair
	}
	return err
}

func (c *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.lastCheck) >= certCheck {
		c.lastCheck = now
		if c.states() != c.state {
			if err := c.load(); err != nil {
				c.log.Error("cannot use the new certificate of the MQTT broker, keeping the old one", "err", err)
			} else {
				c.log.Info("loaded a new certificate of the MQTT broker")
			}
		}
	}
	return c.pair, nil
}
