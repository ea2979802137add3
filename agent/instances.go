package agent

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/reporter"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// instanceRooms are this agent as an instance, and what it knows of others when it leads.
type instanceRooms struct {
	a        *Agent
	table    *instances.Table
	reporter *reporter.Reporter
	mirror   *instances.Mirror
}

// buildTable makes what the jobs and routes of the replica need.
func (a *Agent) buildTable() *instanceRooms {
	return &instanceRooms{a: a, table: instances.New(a.o.Clock)}
}

// buildReporter makes this agent an instance.
func (r *instanceRooms) buildReporter() error {
	a := r.a
	instances.RegisterRoutes(a.cluster, r.table)
	check, err := healthCheck(&a.o)
	if err != nil {
		return err
	}
	if a.o.AckOpen {
		a.log.Warn("every process of this host may say that a version is applied or rejected: CONFIG_ACK_OPEN is set")
	}
	r.reporter = reporter.New(reporter.Options{
		Instance: a.o.InstanceName(), Node: a.cluster.Self, Labels: a.o.Labels, Services: a.o.Services(), Source: a.documents, Rollouts: standing{a.rooms.served}, Health: check,
		Path: a.o.InstanceFile(), Send: instances.Sender(a.cluster, r.table), Term: r.term, Now: a.o.Clock, Logger: a.log,
	})
	return nil
}

// healthCheck is how the settings say that the service is asked.
func healthCheck(o *options.Options) (out reporter.HealthCheck, err error) {
	out.URL = o.HealthURL
	if o.HealthCmd != "" {
		out.Command, err = options.Words(o.HealthCmd)
	}
	return out, err
}

// term is that of the leader that this agent knows, 0 without one.
func (r *instanceRooms) term() uint64 {
	if rep := r.a.replicas.Current(); rep != nil && r.a.replicas.Leader() != "" {
		return rep.Node().Term()
	}
	return 0
}

// members are the members of the cluster, as the table sees them.
func (r *instanceRooms) members() (out []instances.Member) {
	self := instances.Member{Node: r.a.cluster.Self(), Service: r.a.o.ServiceName, Addr: r.a.cluster.Port.Addr()}
	out = append(out, self) // at a first start it has no row yet
	for _, m := range r.a.cluster.Members() {
		if m.RemovedAt == "" && m.NodeID != self.Node {
			out = append(out, instances.Member{Node: m.NodeID, Service: m.Service, Addr: m.Addr})
		}
	}
	return out
}

// lead is a job of the leader.
func (r *instanceRooms) lead(ctx context.Context, rep *replica.Replica) {
	r.table.Lead(ctx, rep.Node().Term(), r.members)
}

// leadMessages is a job of the leader: it reads what observers report at the external broker.
func (r *instanceRooms) leadMessages(ctx context.Context, _ *replica.Replica) {
	a := r.a
	if a.mqtt.publisher == nil {
		return
	}
	config, err := a.o.BrokerTLS()
	if err != nil {
		return // the publisher has said so
	}
	known := func(service string) bool {
		_, ok := a.rooms.view.Get(service)
		return ok
	}
	isMember := func(node string) bool {
		_, is := a.cluster.Find(node)
		return is || node == a.cluster.Self()
	}
	s, err := broker.NewSubscriber(broker.SubscriberOptions{
		URL: a.o.MQTTURL, TLS: config, Filters: []string{broker.AckPrefix + "+/+"}, Logger: a.log,
		Handle: func(m broker.Message) {
			if err := r.table.TakeMessage(strings.TrimPrefix(m.Topic, broker.AckPrefix), m.Payload, known, isMember); err != nil {
				a.log.Debug("a report over MQTT is not used", "topic", conf.Clip(m.Topic), "err", err)
			}
		},
	})
	if err != nil {
		return
	}
	s.Run(ctx)
}

// Instances implements admin.Instances.
func (r *instanceRooms) Instances(ctx context.Context, service string, keys bool) (conf.Instances, error) {
	stable, err := r.a.backend.CurrentRecord(ctx, service)
	if err != nil {
		return conf.Instances{}, err
	}
	if r.table.Term() != 0 {
		return r.table.Answer(service, stable, keys, r.members()), nil
	}
	var own *conf.Report
	if report, ok := r.reporter.Local(service); ok {
		own = &report
	}
	return instances.Alone(service, stable, own, "no leader is known to this agent, which shows what it knows of itself", time.Now()), nil
}

// TakeReports implements admin.Instances.
func (r *instanceRooms) TakeReports(_ context.Context, in conf.ReportBatch) (conf.ReportReply, error) {
	for i := range in.Reports {
		if _, known := r.a.rooms.view.Get(in.Reports[i].Service); !known {
			return conf.ReportReply{}, conf.Errorf(conf.CodeNotFound, "no service %q", conf.Clip(in.Reports[i].Service))
		}
	}
	return r.table.TakeObserver(in, func(node string) bool {
		_, is := r.a.cluster.Find(node)
		return is || node == r.a.cluster.Self() || node == r.a.o.NodeID // at a first start there are no rows yet
	})
}

// follow makes the follower of one stream of events.
func (r *instanceRooms) follow() events.Follower {
	return r.mirror.Follow(r.a.backend.Follow(), func(service string) uint64 {
		if e, ok := r.a.rooms.view.Get(service); ok {
			return e.Record.Version
		}
		return 0
	})
}

// standing is what the reporter asks of the room of rollouts.
type standing struct{ *served.Served }

// Standing implements reporter.Rollouts.
func (s standing) Standing(service string) reporter.Standing {
	st := s.State(service)
	out := reporter.Standing{Candidate: st.Candidate, CanRefuse: st.CanRefuse, Joined: st.Joined}
	if m := st.Mark; m != nil {
		out.Refused, out.Revert, out.Epoch = m.Refused, m.Revert.Version, m.Epoch
		out.Verdict = reporter.Verdict{Reason: m.Verdict.Reason, Details: m.Verdict.Details, Worker: m.Verdict.Worker, Cause: m.Verdict.Cause}
	}
	return out
}

// Refuse implements reporter.Rollouts.
func (s standing) Refuse(ctx context.Context, service, epoch string, version uint64, v reporter.Verdict) error {
	return s.Served.Refuse(ctx, service, epoch, version, served.Verdict{Reason: v.Reason, Details: v.Details, Worker: v.Worker, Cause: v.Cause})
}
