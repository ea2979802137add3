package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/backup"
)

// backupMetrics tells of the backup, on the agent that makes it. Litestream's own
// numbers are in another registry, which nobody scrapes.
type backupMetrics struct {
	runner func() *backup.Runner

	healthy, lag, last, waiting, verified, index, restarts *prometheus.Desc
}

func newBackupMetrics(s *supervisor) *backupMetrics {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("holdfast_backup_"+name, help, nil, nil)
	}
	return &backupMetrics{
		runner:   s.backup.Load,
		healthy:  d("healthy", "1 while the backup is copied without errors and its last restore drill was good."),
		lag:      d("lag_seconds", "For how long the oldest change that is not in the backup has been waiting."),
		last:     d("last_success_timestamp_seconds", "When something was last copied."),
		waiting:  d("waiting_bytes", "Bytes on this disk that wait for the place of the backup."),
		verified: d("verified_timestamp_seconds", "When the backup was last restored and found equal to the state."),
		index:    d("index", "Log index that is safely in the backup."),
		restarts: d("restarts_total", "Generations that were given up, in this leadership."),
	}
}

// Describe implements prometheus.Collector.
func (m *backupMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.healthy, m.lag, m.last, m.waiting, m.verified, m.index, m.restarts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (m *backupMetrics) Collect(ch chan<- prometheus.Metric) {
	r := m.runner()
	if r == nil {
		return
	}
	st := r.Status()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	at := func(d *prometheus.Desc, t time.Time) {
		if !t.IsZero() {
			gauge(d, float64(t.UnixMilli())/1000)
		}
	}
	ok := 0.0
	if st.Err == nil && st.Drill != nil && st.Drill.Err == nil {
		ok = 1
	}
	gauge(m.healthy, ok)
	gauge(m.lag, st.Lag.Seconds())
	gauge(m.waiting, float64(st.Local))
	gauge(m.index, float64(st.Index))
	at(m.last, st.LastSync)
	if st.Verified != nil {
		at(m.verified, st.Verified.At)
	}
	ch <- prometheus.MustNewConstMetric(m.restarts, prometheus.CounterValue, float64(st.Restarts))
}
