package observer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

var (
	upDesc        = desc("replica_up", "1 while this agent runs in normal mode, 0 while it is read-only or rebuilding.")
	servicesDesc  = desc("services", "Services in memory, deleted ones included.")
	ageDesc       = desc("age_seconds", "Seconds since a leader signed what is served.")
	skewDesc      = desc("clock_skew_seconds", "By how much the newest signature is ahead of this agent's clock: the clock of the leader is, or this one is behind.", "member")
	lkgValidDesc  = desc("lkg_valid", "1 while the last-known-good file is good.")
	connectedDesc = desc("observer_connected", "1 while the broker is followed.")
	connectsDesc  = desc("observer_connects_total", "Connections to the broker.")
	acceptedDesc  = desc("update_accepted_total", "Signed updates that were accepted and new.")
	refusedDesc   = desc("update_refused_total", "Signed updates that were refused; version: accepted, but an unsigned version went back.", "reason")
	fetchedDesc   = desc("observer_asked_total", "Questions to members, by what became of them.", "result")
)

// collector reads the state of an observer on a scrape.
type collector struct{ b *Observer }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, servicesDesc, ageDesc, skewDesc, lkgValidDesc, connectedDesc, acceptedDesc, refusedDesc, connectsDesc, fetchedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Calls may overlap.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	flag := map[bool]float64{true: 1}
	h := c.b.Health()
	gauge(upDesc, flag[h.OperationalMode == conf.ModeNormal])
	gauge(servicesDesc, float64(c.b.view.Load().Len()))
	if age := c.b.age(); age >= 0 {
		gauge(ageDesc, age.Seconds())
	}
	ch <- prometheus.MustNewConstMetric(skewDesc, prometheus.GaugeValue, c.b.receiver.Ahead().Seconds(), "leader")
	gauge(lkgValidDesc, flag[h.LKGCacheValid])
	accepted, refused := c.b.receiver.Stats()
	if s := c.b.link.subscriber; s != nil {
		st := s.Stats()
		gauge(connectedDesc, flag[st.Connected])
		counter(connectsDesc, st.Connects)
		refused[updates.ReasonTooLarge] += st.TooLarge
	}
	counter(acceptedDesc, accepted)
	for _, reason := range updates.Reasons() {
		counter(refusedDesc, refused[reason], string(reason))
	}
	f := c.b.fetch
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, result := range fetchResults {
		counter(fetchedDesc, f.results[result], result)
	}
}
