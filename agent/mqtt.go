package agent

import (
	"context"
	"iter"
	"net/url"

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
	return broker.State{Epoch: snap.Epoch, Mark: snap, Changed: snap.Changed(), Records: g.records(snap, old)}
}

func (g signed) records(snap, old *view.Snapshot[*localapi.Document]) iter.Seq[*conf.Record] {
	return func(yield func(*conf.Record) bool) {
		snap.Range(func(e *entry) bool {
			if e.Record.Signature == "" {
				return true
			}
			if old != nil {
				if was, ok := old.Get(e.Record.Service); ok && was.Record == e.Record {
					return true
				}
			}
			return yield(e.Record)
		})
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
		a.broker, err = broker.New(broker.Options{Addr: a.o.MQTTAddr, User: a.o.MQTTUser, Password: a.o.MQTTPassword, Source: src, Logger: a.log})
		if err != nil && a.o.MQTTAddr == Defaults().MQTTAddr {
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
	a.publisher, err = broker.NewPublisher(broker.PublisherOptions{
		URL: a.o.MQTTURL, Source: src, Leading: a.cluster.leadership, ClientID: "holdfast-" + a.cluster.port.Identity().ClusterID[:8], Logger: a.log,
	})
	return err
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
