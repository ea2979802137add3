package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// metrics reads the state of the agent when somebody scrapes it: nothing is
// counted on the way of a request here.
type metrics struct {
	s     *supervisor
	audit *auditor

	up, services, index, age, lkgValid, auditLost *prometheus.Desc
}

func newMetrics(s *supervisor, a *auditor) *metrics {
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("holdfast_"+name, help, nil, nil) }
	return &metrics{
		s: s, audit: a,
		up:        d("replica_up", "1 while this agent runs in normal mode, 0 while it is read-only or rebuilding."),
		services:  d("services", "Services in memory, deleted ones included."),
		index:     d("applied_index", "Log index that the readers see."),
		age:       d("age_seconds", "Seconds since this agent last heard from a leader."),
		lkgValid:  d("lkg_valid", "1 while the last-known-good file is good."),
		auditLost: d("access_log_lost_total", "Rows of the access log that went to the process log only."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.services, m.index, m.age, m.lkgValid, m.auditLost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	h := m.s.Health()
	snap := m.s.view.Load()
	gauge(m.up, flag(h.OperationalMode == conf.ModeNormal))
	gauge(m.services, float64(snap.Len()))
	gauge(m.index, float64(snap.Index))
	gauge(m.age, m.s.age().Seconds())
	gauge(m.lkgValid, flag(h.LKGCacheValid))
	ch <- prometheus.MustNewConstMetric(m.auditLost, prometheus.CounterValue, float64(m.audit.lost.Load()))
}
