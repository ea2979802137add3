package backend

import (
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics read the state of the agent at each scrape.
type metrics struct {
	b     *Backend
	share *admin.Limits

	up, services, index, age, lkgValid, unopened, refused, cutOff, terms, skew *prometheus.Desc
}

// Metrics returns the metrics of this agent's state and of the admin API's limits.
func (b *Backend) Metrics(share *admin.Limits) prometheus.Collector {
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("holdfast_"+name, help, nil, nil) }
	return &metrics{
		b: b, share: share,
		up:       d("replica_up", "1 while this agent runs in normal mode, 0 while it is read-only or rebuilding."),
		services: d("services", "Services in memory, deleted ones included."),
		index:    d("applied_index", "Log index that the readers see."),
		age:      d("age_seconds", "Seconds since this agent last heard from a leader."),
		lkgValid: d("lkg_valid", "1 while the last-known-good file is good."),
		unopened: d("secrets_unopened", "Stored secrets that are missing from what is served, because this agent cannot open them."),
		cutOff:   d("members_cut_off", "Members that this agent, as the leader, sends nothing to: they do not vote, and respond with a higher term."),
		terms:    d("refused_terms_total", "Higher terms of members that do not vote, which were not taken over."),
		skew: prometheus.NewDesc("holdfast_clock_skew_seconds",
			"By how much the clock of a member is ahead of this agent's, as the last contact showed; negative: behind.", []string{"member"}, nil),
		refused: prometheus.NewDesc("holdfast_admin_refused_total",
			"Answers 429 of the admin API: attempts after too many that failed, requests of a caller that has too many under way, connections.", []string{"reason"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.services, m.index, m.age, m.lkgValid, m.unopened, m.refused, m.cutOff, m.terms, m.skew} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	flag := map[bool]float64{true: 1}
	h := m.b.Health()
	snap := m.b.o.View.Load()
	gauge(m.up, flag[h.OperationalMode == conf.ModeNormal])
	gauge(m.services, float64(snap.Len()))
	gauge(m.index, float64(snap.Index))
	gauge(m.age, m.b.sup.Age().Seconds())
	gauge(m.lkgValid, flag[h.LKGCacheValid])
	gauge(m.unopened, float64(len(m.b.o.Secrets.Unopened(m.b.o.Served.Load()))))
	if rep := m.b.sup.Current(); rep != nil {
		gauge(m.cutOff, float64(len(replica.CutOff(rep))))
		ch <- prometheus.MustNewConstMetric(m.terms, prometheus.CounterValue, float64(replica.RefusedTerms(rep)))
	}
	for member, ahead := range m.b.o.Cluster.Clocks.Skews() {
		ch <- prometheus.MustNewConstMetric(m.skew, prometheus.GaugeValue, ahead.Seconds(), member)
	}
	rejected := m.share.Rejected()
	for reason, n := range map[string]uint64{"attempts": rejected.Attempts, "requests": rejected.Requests, "connections": rejected.Connections} {
		ch <- prometheus.MustNewConstMetric(m.refused, prometheus.CounterValue, float64(n), reason)
	}
}
