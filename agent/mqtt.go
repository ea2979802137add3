package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"iter"
	"net/url"
	"os"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// signed gives the brokers the signed updates of the view. Only what a leader
// signed goes out: the schemas' defaults carry no signature.
type signed struct{ s *supervisor }

// Load is broker.Source. The mark is the snapshot: records that stand in both are
// the same pointers.
func (g signed) Load(prev any) broker.State {
	snap := g.s.view.Load()
	old, _ := prev.(*view.Snapshot[*localapi.Document])
	st := broker.State{Epoch: snap.Epoch, Mark: snap, Changed: snap.Changed(), Records: g.records(snap, old)}
	if changes := g.s.epochs.Load(); changes != nil {
		st.Changes = *changes
	}
	return st
}

func (g signed) records(snap, old *view.Snapshot[*localapi.Document]) iter.Seq[*conf.Record] {
	return func(yield func(*conf.Record) bool) {
		snap.Since(old, func(e *entry) bool { return e.Record.Signature == "" || yield(e.Record) })
	}
}

// Health is broker.Source.
func (g signed) Health() (conf.Health, <-chan struct{}) {
	g.s.st.mu.Lock()
	changed := g.s.st.notify
	g.s.st.mu.Unlock()
	return g.s.Health(), changed
}

// leadership is broker.PublisherOptions.Leading.
func (c *cluster) leadership() (bool, <-chan struct{}) {
	c.mu.Lock()
	changed := c.turned
	c.mu.Unlock()
	return c.leading(), changed
}

// turn tells whoever waits that leadership may have changed.
func (c *cluster) turn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.turned)
	c.turned = make(chan struct{})
}

// brokers makes the embedded broker and the publisher to an outside one, as far
// as the settings ask for them.
func (a *Agent) brokers() (err error) {
	src := signed{a.sup}
	if a.o.MQTTAddr != "" && a.o.MQTTAddr != "none" {
		bo := broker.Options{Addr: a.o.MQTTAddr, User: a.o.MQTTUser, Password: a.o.MQTTPassword, Source: src, Logger: a.log}
		if a.o.MQTTCert != "" || a.o.MQTTKey != "" {
			if bo.TLS, err = broker.ServerTLS(a.o.MQTTCert, a.o.MQTTKey, a.log); err != nil {
				return err
			}
		}
		a.broker, err = broker.New(bo)
		if err != nil && a.o.MQTTAddr == Defaults().MQTTAddr && a.o.MQTTUser == "" && bo.TLS == nil {
			// Nobody asked for it: a broker of the user's own on the usual port
			// must not keep the agent down.
			a.log.Warn("the embedded MQTT broker is off: its usual address is taken", "addr", a.o.MQTTAddr, "err", err)
			a.broker, err = nil, nil
		}
		if err != nil {
			return conf.Errorf(conf.CodeUsage, "MQTT: %w", err).WithHint("stop what uses %s, set CONFIG_MQTT_ADDR, or turn the broker off with CONFIG_MQTT_ADDR=none", a.o.MQTTAddr)
		}
	}
	if a.o.MQTTURL == "" || a.cluster.port.Identity().Role == conf.MemberSidecar {
		return nil
	}
	if _, err := url.Parse(a.o.MQTTURL); err != nil {
		return conf.Errorf(conf.CodeUsage, "MQTT_URL is not a URL").WithHint("write it as mqtt://user:password@host:1883 or mqtts://host:8883")
	}
	config, err := brokerTLS(a.o.MQTTCA)
	if err != nil {
		return err
	}
	a.publisher, err = broker.NewPublisher(broker.PublisherOptions{
		URL: a.o.MQTTURL, TLS: config, Source: src, Leading: a.cluster.leadership, ClientID: "holdfast-" + a.cluster.port.Identity().ClusterID[:8], Logger: a.log,
	})
	return err
}

// brokerTLS trusts the CAs of a file for a mqtts:// broker; nil is what the system trusts.
func brokerTLS(path string) (*tls.Config, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // the default
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "MQTT_CA_FILE: %w", err).WithHint("set it to a PEM file with the certificates of the broker's CA")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, conf.Errorf(conf.CodeUsage, "MQTT_CA_FILE %s holds no certificate", path).WithHint("set it to a PEM file with the certificates of the broker's CA")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}

// runBrokers runs what brokers made until ctx ends.
func (a *Agent) runBrokers(ctx context.Context, failed chan<- error) (wait func()) {
	var done []chan struct{}
	run := func(f func()) {
		ch := make(chan struct{})
		done = append(done, ch)
		go func() {
			defer close(ch)
			f()
		}()
	}
	if a.broker != nil {
		run(func() {
			if err := a.broker.Run(ctx); err != nil {
				failed <- err
			}
		})
	}
	if a.publisher != nil {
		run(func() { a.publisher.Run(ctx) })
	}
	return func() {
		for _, ch := range done {
			<-ch
		}
	}
}
