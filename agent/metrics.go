package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// metrics reads the state of the agent when somebody scrapes it: nothing is
// counted on the way of a request here.
type metrics struct {
	s     *supervisor
	audit *auditor
	share *admin.Share

	up, services, index, age, lkgValid, auditLost, auditWaiting, reissued, reissueFailures, lostSecrets, refused *prometheus.Desc
}

func newMetrics(s *supervisor, a *auditor, share *admin.Share) *metrics {
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("holdfast_"+name, help, nil, nil) }
	return &metrics{
		s: s, audit: a, share: share,
		up:              d("replica_up", "1 while this agent runs in normal mode, 0 while it is read-only or rebuilding."),
		services:        d("services", "Services in memory, deleted ones included."),
		index:           d("applied_index", "Log index that the readers see."),
		age:             d("age_seconds", "Seconds since this agent last heard from a leader."),
		lkgValid:        d("lkg_valid", "1 while the last-known-good file is good."),
		auditLost:       d("access_log_lost_total", "Rows of the access log that went to the process log only."),
		auditWaiting:    d("access_log_waiting_bytes", "Bytes of the access log that wait in the data directory for a leader."),
		reissued:        d("reissued_total", "Signatures that this agent renewed while it led."),
		reissueFailures: d("reissue_failures_total", "Attempts to renew all signatures that failed."),
		lostSecrets:     d("secrets_unopened", "Stored secrets that are missing from what is served, because this agent cannot open them."),
		refused: prometheus.NewDesc("holdfast_admin_refused_total",
			"Answers 429 of the admin API: attempts after too many that failed, requests of a caller that has too many under way, connections.", []string{"reason"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.services, m.index, m.age, m.lkgValid, m.auditLost, m.auditWaiting, m.reissued, m.reissueFailures, m.lostSecrets, m.refused} {
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
	gauge(m.lostSecrets, float64(len(m.s.lost.now(snap))))
	gauge(m.auditWaiting, float64(m.audit.spool.pending()))
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	count(m.auditLost, m.audit.lost.Load())
	count(m.reissued, m.s.reissued.Load())
	count(m.reissueFailures, m.s.reissueFailures.Load())
	turned := m.share.Refused()
	for reason, n := range map[string]uint64{"attempts": turned.Attempts, "requests": turned.Requests, "connections": turned.Connections} {
		ch <- prometheus.MustNewConstMetric(m.refused, prometheus.CounterValue, float64(n), reason)
	}
}
