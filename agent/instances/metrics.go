package instances

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/conf"
)

var instancesDesc = prometheus.NewDesc("holdfast_instances", "Instances that this leader has heard of, by service and status.", []string{"service", "status"}, nil)

// Describe implements prometheus.Collector.
func (t *Table) Describe(ch chan<- *prometheus.Desc) { ch <- instancesDesc }

// Collect implements prometheus.Collector.
func (t *Table) Collect(ch chan<- prometheus.Metric) {
	type key struct {
		service string
		status  conf.InstanceStatus
	}
	counts := map[key]int{}
	t.mu.Lock()
	for name, s := range t.services {
		for _, e := range s.entries {
			status := e.Status
			if e.Lost {
				status = conf.InstanceLost
			}
			counts[key{name, status}]++
		}
	}
	t.mu.Unlock()
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(instancesDesc, prometheus.GaugeValue, float64(n), k.service, string(k.status))
	}
}
