package scrape

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// MaxServices is of how many services there are metrics; of more, there are none but those of
// the agent's own service. Each is a series in the database of each that reads them.
const MaxServices = 1000

// Vitals is what an agent is asked for at each scrape. Its functions are called by requests,
// and may overlap.
type Vitals struct {
	Version string // of the build
	Role    func() string
	Service string // of the agent; empty: none

	// Raft is nil for an agent that is no member.
	Raft            func() Raft
	CertificateEnds func() time.Time // of a member; nil for an agent that is none
	// LKGWritten is when the content of the last-known-good file was written; zero: none.
	LKGWritten func() time.Time
	Records    func() []*conf.Record // of all services
}

// Raft is the part of a member in its cluster.
type Raft struct {
	Leads   bool
	Leader  bool // one is known
	Term    uint64
	Last    uint64 // index of the log
	Applied uint64 // index of the database
}

var (
	descBuild   = desc("build_info", "1, with the build of the agent and its role.", "version", "go_version", "role")
	descLeader  = desc("leader", "1 while this agent leads the cluster.")
	descKnown   = desc("leader_known", "1 while this agent knows of a leader.")
	descTerm    = desc("raft_term", "Term of the newest entry of the log of this agent.")
	descLast    = desc("raft_last_index", "Index of the newest entry of the log of this agent.")
	descApplied = desc("raft_applied_index", "Index up to which the database of this agent has the log.")
	descCert    = desc("certificate_end_timestamp_seconds", "When the certificate ends by which other members know this agent.")
	descLKG     = desc("lkg_written_timestamp_seconds", "Time of the content of the last-known-good file and its journal.")
	descVersion = desc("service_version", "Version of a service that this agent has, as the cluster has decided it.", "service")
	descUpdated = desc("service_updated_timestamp_seconds", "When that version was made.", "service")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (v *Vitals) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuild, descLeader, descKnown, descTerm, descLast, descApplied, descCert, descLKG, descVersion, descUpdated} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (v *Vitals) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	flag := map[bool]float64{true: 1}
	gauge(descBuild, 1, v.Version, runtime.Version(), v.Role())
	if v.Raft != nil {
		r := v.Raft()
		gauge(descLeader, flag[r.Leads])
		gauge(descKnown, flag[r.Leader])
		gauge(descTerm, float64(r.Term))
		gauge(descLast, float64(r.Last))
		gauge(descApplied, float64(r.Applied))
	}
	if v.CertificateEnds != nil {
		gauge(descCert, seconds(v.CertificateEnds()))
	}
	if at := v.LKGWritten(); !at.IsZero() {
		gauge(descLKG, seconds(at))
	}
	records := v.Records()
	for _, r := range records {
		if !r.Exists() || len(records) > MaxServices && r.Service != v.Service {
			continue
		}
		gauge(descVersion, float64(r.Version), r.Service)
		if at, err := conf.ParseTime(r.UpdatedAt); err == nil {
			gauge(descUpdated, seconds(at), r.Service)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
