package backupjob

import (
	"time"

	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics report the backup, on the agent that makes it. Litestream's own metrics are in
// another registry, which is not exported.
type metrics struct {
	runner func() *backup.Runner

	healthy, lag, last, waiting, verified, index, restarts *prometheus.Desc
}

// Metrics are the metrics of the backup.
func (m *Manager) Metrics() prometheus.Collector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("holdfast_backup_"+name, help, nil, nil)
	}
	return &metrics{
		runner:   m.runner.Load,
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
func (c *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.healthy, c.lag, c.last, c.waiting, c.verified, c.index, c.restarts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (c *metrics) Collect(ch chan<- prometheus.Metric) {
	r := c.runner()
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
	gauge(c.healthy, ok)
	gauge(c.lag, st.Lag.Seconds())
	gauge(c.waiting, float64(st.Local))
	gauge(c.index, float64(st.Index))
	at(c.last, st.LastSync)
	if st.Verified != nil {
		at(c.verified, st.Verified.At)
	}
	ch <- prometheus.MustNewConstMetric(c.restarts, prometheus.CounterValue, float64(st.Restarts))
}
