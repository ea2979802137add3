package broker

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of the brokers, read at each scrape. Those of a broker that is
// off are left out.
type metrics struct {
	brokers   []*Broker
	publisher *Publisher
}

// Metrics are those of the publisher to an external broker, nil when it is off, and of the
// embedded brokers together.
func Metrics(p *Publisher, embedded ...*Broker) prometheus.Collector { return metrics{embedded, p} }

type brokerMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Stats) float64
}

type uplinkMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(PublisherStats) float64
}

func mqttDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_mqtt_"+name, help, labels, nil)
}

func brokerMetrics() []brokerMetric {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return []brokerMetric{
		{mqttDesc("connections", "Connections to the embedded broker now."), gauge, func(s Stats) float64 { return float64(s.Connections) }},
		{mqttDesc("accepted_total", "Connections that the embedded broker accepted."), counter, func(s Stats) float64 { return float64(s.Accepted) }},
		{mqttDesc("published_total", "Messages that the embedded broker took from this agent."), counter, func(s Stats) float64 { return float64(s.Published) }},
		{mqttDesc("delivered_total", "Messages that it wrote to subscribers."), counter, func(s Stats) float64 { return float64(s.Delivered) }},
		{mqttDesc("conflated_total", "Messages that a newer one replaced before a subscriber took them."), counter, func(s Stats) float64 { return float64(s.Conflated) }},
		{mqttDesc("dropped_total", "Messages that are larger than a subscriber takes."), counter, func(s Stats) float64 { return float64(s.Dropped) }},
	}
}

func uplinkMetrics() []uplinkMetric {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return []uplinkMetric{
		{mqttDesc("uplink_connected", "1 while this agent is connected to the outside broker; only the leader is."), gauge, func(s PublisherStats) float64 {
			if s.Connected {
				return 1
			}
			return 0
		}},
		{mqttDesc("uplink_pending", "Messages that the outside broker has not acknowledged yet."), gauge, func(s PublisherStats) float64 { return float64(s.Pending) }},
		{mqttDesc("uplink_published_total", "Messages that it has acknowledged."), counter, func(s PublisherStats) float64 { return float64(s.Published) }},
		{mqttDesc("uplink_refused_total", "Messages that it refused, or that are too large for it."), counter, func(s PublisherStats) float64 { return float64(s.Refused) }},
		{mqttDesc("uplink_connects_total", "Connections to it."), counter, func(s PublisherStats) float64 { return float64(s.Connects) }},
		{mqttDesc("uplink_failures_total", "Connections to it that failed or broke."), counter, func(s PublisherStats) float64 { return float64(s.Failures) }},
	}
}

func refusedDesc() *prometheus.Desc {
	return mqttDesc("refused_total", "What the embedded broker refused, and connections that it ended, by reason.", "reason")
}

// Describe implements prometheus.Collector.
func (metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range brokerMetrics() {
		ch <- m.desc
	}
	for _, m := range uplinkMetrics() {
		ch <- m.desc
	}
	ch <- refusedDesc()
}

// Collect implements prometheus.Collector. It is called by scrapes and may overlap.
func (c metrics) Collect(ch chan<- prometheus.Metric) {
	if len(c.brokers) > 0 {
		var s Stats
		for _, b := range c.brokers {
			s.add(b.Stats())
		}
		for _, m := range brokerMetrics() {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
		}
		desc := refusedDesc()
		for reason, n := range s.Refused {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), string(reason))
		}
	}
	if p := c.publisher; p != nil {
		s := p.Stats()
		for _, m := range uplinkMetrics() {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
		}
	}
}
