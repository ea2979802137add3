package agent

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/observe"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/view"
)

type publicKey = ed25519.PublicKey

// split is a comma separated list without empty elements.
func split(s string) (out []string) {
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

// ownServices are those that an observer follows, the first one is its own.
func ownServices(o Options) (out []string) {
	for _, s := range split(o.ServiceName) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// trusted reads CONFIG_TRUST: keys, or files that hold keys. A PEM block has no
// comma, so a list can hold several.
func trusted(o Options) (out []publicKey, err error) {
	list := split(o.Trust)
	if len(list) == 0 {
		if text, ok := o.LookupEnv(keys.EnvPublicKey); ok && text != "" {
			list = []string{text}
		}
	}
	if len(list) == 0 {
		return nil, conf.Errorf(conf.CodeUsage, "an observer needs the public key of the cluster").
			WithHint("give it with --trust: PEM, base64, or a file; `curl http://127.0.0.1:2770/v1/keys` beside a member shows it. Bring it on a path that you trust, not through the broker")
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

// withPublic answers for the public key, so that the keys are loaded as those of an
// agent that has no other key of the cluster.
func withPublic(env func(string) (string, bool), pub publicKey) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name != keys.EnvPublicKey {
			return env(name)
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err == nil
	}
}

// canonicalSchemas reads the schema directory. What the cluster has of a schema is
// not signed; a file that the operator put beside the observer is trusted.
func canonicalSchemas(dir string) (map[string][]byte, error) {
	raw, err := readSchemas(dir)
	for name, data := range raw {
		c, cerr := seal.CanonicalJSON(data)
		if cerr != nil {
			return nil, conf.Errorf(conf.CodeUsage, "schema of %s: %w", name, cerr)
		}
		raw[name] = c
	}
	return raw, err
}

// age is how long ago the leader signed what is served; negative: never.
func (b *Observer) age() time.Duration {
	at := b.receiver.Proven()
	if at.IsZero() {
		return -1
	}
	return max(0, time.Since(at))
}

// serving is nil when each service has something that a leader once signed.
func (b *Observer) serving() error {
	snap := b.view.Load()
	var missing []string
	for _, s := range b.services {
		if e, ok := snap.Get(s); !ok || e.Record.Epoch == "" {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	b.mu.Lock()
	link := b.link
	b.mu.Unlock()
	e := conf.Errorf(conf.CodeReadOnly, "nothing was heard yet of %s", strings.Join(missing, ", ")).
		WithHint("look at the agent's log and at holdfast_update_refused_total in /metrics: the broker may not have it, or the wrong key is trusted")
	if link != nil {
		return conf.Errorf(conf.CodeReadOnly, "nothing was heard yet of %s, and the broker is not connected", strings.Join(missing, ", ")).
			WithHint("check --mqtt and the broker")
	}
	return e
}

// Health tells of the observer in the words of an agent. It has no database.
func (b *Observer) Health() conf.Health {
	snap := b.view.Load()
	b.mu.Lock()
	link, lkgErr := b.link, b.lkgErr
	b.mu.Unlock()
	file := b.writer.Status()
	h := conf.Health{
		DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeReadOnly, ConfigEpoch: snap.Epoch,
		LKGCacheValid: file.Valid, LitestreamStatus: "disabled",
	}
	event := "following the members"
	if b.subscriber != nil {
		event = "following " + b.subscriber.Addr()
	}
	var trouble string
	switch {
	case snap.Source == view.SourceReplica && (link == nil || b.subscriber == nil):
		h.OperationalMode = conf.ModeNormal
	case link != nil && b.subscriber != nil:
		event, trouble = "not connected to "+b.subscriber.Addr(), link.Error()
	default:
		event = "connected, and nothing was heard yet"
	}
	switch {
	case file.Err != nil:
		trouble = publicText(file.Err)
	case lkgErr != nil && !file.Valid:
		trouble = publicText(lkgErr)
	}
	h.Event = &event
	if trouble != "" {
		h.Err = &trouble
	}
	h.OK = h.OperationalMode == conf.ModeNormal && h.LKGCacheValid
	return h
}

// observerMetrics reads the state of an observer when somebody scrapes it.
type observerMetrics struct {
	b *Observer

	up, services, age, lkgValid, connected, taken, refused, connects, asked *prometheus.Desc
}

func newObserverMetrics(b *Observer) *observerMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
	}
	return &observerMetrics{
		b:         b,
		up:        d("replica_up", "1 while this agent runs in normal mode, 0 while it is read-only or rebuilding."),
		services:  d("services", "Services in memory, deleted ones included."),
		age:       d("age_seconds", "Seconds since a leader signed what is served."),
		lkgValid:  d("lkg_valid", "1 while the last-known-good file is good."),
		connected: d("observer_connected", "1 while the broker is followed."),
		connects:  d("observer_connects_total", "Connections to the broker."),
		taken:     d("update_accepted_total", "Signed updates that were accepted and new."),
		refused:   d("update_refused_total", "Signed updates that were refused; version: accepted, but an unsigned version went back.", "reason"),
		asked:     d("observer_asked_total", "Questions to members, by what became of them.", "result"),
	}
}

// Describe implements prometheus.Collector.
func (m *observerMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.services, m.age, m.lkgValid, m.connected, m.taken, m.refused, m.connects, m.asked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (m *observerMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	flag := map[bool]float64{true: 1}
	h := m.b.Health()
	gauge(m.up, flag[h.OperationalMode == conf.ModeNormal])
	gauge(m.services, float64(m.b.view.Load().Len()))
	if age := m.b.age(); age >= 0 {
		gauge(m.age, age.Seconds())
	}
	gauge(m.lkgValid, flag[h.LKGCacheValid])
	taken, refused := m.b.receiver.Stats()
	if s := m.b.subscriber; s != nil {
		st := s.Stats()
		gauge(m.connected, flag[st.Connected])
		counter(m.connects, st.Connects)
		refused[observe.ReasonTooLarge] += st.TooLarge
	}
	counter(m.taken, taken)
	for _, reason := range observe.Reasons() {
		counter(m.refused, refused[reason], string(reason))
	}
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	for _, result := range askResults {
		counter(m.asked, m.b.asked[result], result)
	}
}
