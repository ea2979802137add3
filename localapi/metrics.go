package localapi

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// route is what a request is counted under.
type route uint8

const (
	routeDocument route = iota
	routeKey
	routeEnv
	routeWatch
	routeKeys
	routeHealth
	routeReady
	routeMetrics
	routeOther
	routes
)

var routeNames = [routes]string{"document", "key", "env", "watch", "keys", "health", "ready", "metrics", "other"}

// rejectReason is why a request or connection was rejected.
type rejectReason uint8

const (
	rejectedHost rejectReason = iota
	rejectedProxy
	rejectedOrigin
	rejectedBody
	rejectedToken
	rejectedConnection
	rejectReasons
)

var rejectReasonNames = [rejectReasons]string{"host", "proxy", "origin", "body", "token", "connections"}

func (r rejectReason) String() string { return rejectReasonNames[r] }

// statuses are those of responses; the last slot counts all others.
var statuses = [...]int{200, 304, 400, 401, 403, 404, 405, 422, 429, 500, 503, 0}

func statusSlot(status int) int {
	switch status {
	case http.StatusOK:
		return 0
	case http.StatusNotModified:
		return 1
	}
	for i, s := range statuses {
		if s == status {
			return i
		}
	}
	return len(statuses) - 1
}

// metrics counts with atomics: a request costs one addition.
type metrics struct {
	requests    [routes][len(statuses)]atomic.Uint64
	rejected    [rejectReasons]atomic.Uint64
	panics      atomic.Uint64
	polls       atomic.Int64
	watches     atomic.Int64
	connections func() int
	state       func() *State
	rooms       []*roomMetrics
}

// roomMetrics count what a Room answers.
type roomMetrics struct {
	name     string
	requests [len(statuses)]atomic.Uint64
	streams  atomic.Int64
}

func (m *metrics) count(r route, status int) { m.requests[r][statusSlot(status)].Add(1) }

var (
	descRequests = prometheus.NewDesc("holdfast_local_requests_total",
		"Answers of the local API.", []string{"route", "code"}, nil)
	descRejected = prometheus.NewDesc("holdfast_local_refused_total",
		"Requests and connections that the local API turned away.", []string{"reason"}, nil)
	descPanics = prometheus.NewDesc("holdfast_local_panics_total",
		"Panics in handlers of the local API.", nil, nil)
	descConnections = prometheus.NewDesc("holdfast_local_connections",
		"Open connections of the local API.", nil, nil)
	descWaiting = prometheus.NewDesc("holdfast_local_waiting",
		"Requests that wait for a change.", []string{"kind"}, nil)
	descIndex = prometheus.NewDesc("holdfast_local_config_index",
		"Log index of the configuration that is served.", nil, nil)
	descAge = prometheus.NewDesc("holdfast_local_config_age_seconds",
		"Time since this agent last heard from a leader; absent when it never did.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRequests, descRejected, descPanics, descConnections, descWaiting, descIndex, descAge} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	requests := func(name string, of *[len(statuses)]atomic.Uint64) {
		for i, status := range statuses {
			if n := of[i].Load(); n > 0 {
				code := "other"
				if status != 0 {
					code = strconv.Itoa(status)
				}
				counter(descRequests, n, name, code)
			}
		}
	}
	for r := range m.requests {
		requests(routeNames[r], &m.requests[r])
	}
	for _, room := range m.rooms {
		requests(room.name, &room.requests)
		gauge(descWaiting, float64(room.streams.Load()), room.name)
	}
	for i := range m.rejected {
		counter(descRejected, m.rejected[i].Load(), rejectReasonNames[i])
	}
	counter(descPanics, m.panics.Load())
	gauge(descConnections, float64(m.connections()))
	gauge(descWaiting, float64(m.polls.Load()), "poll")
	gauge(descWaiting, float64(m.watches.Load()), "watch")
	if st := m.state(); st != nil {
		gauge(descIndex, float64(st.index))
		if st.lag >= 0 {
			gauge(descAge, st.lag.Seconds())
		}
	}
}

func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
