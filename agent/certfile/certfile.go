package certfile

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// certCheck is the minimal interval between two checks of the certificate files.
const certCheck = time.Second

// Server serves the certificate of two PEM files: what names the server, prefix its two
// settings.
func Server(what, prefix, certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certFiles{what: what, cert: certFile, key: keyFile, log: log, alarms: alarm.NewSet(log)}
	if err := c.load(); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "the certificate of %s cannot be used: %w", what, err).
			WithHint("%[1]s_TLS_CERT and %[1]s_TLS_KEY are PEM files of one certificate (with its chain) and its key", prefix)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

type certFiles struct {
	what      string // whose they are
	cert, key string
	log       *slog.Logger
	alarms    *alarm.Set

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
				c.alarms.Raise(alarm.CertificateUnfit, "", err, "of", c.what)
			} else if !c.alarms.Clear("") {
				alarm.CertificateUnfit.Over(c.log, "of", c.what)
			}
		}
	}
	return c.pair, nil
}
