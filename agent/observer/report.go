package observer

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/reporter"
	"github.com/holdfast-config/holdfast/localapi/ack"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// newReporter makes the observer an instance of its services. It reports with the token in
// CONFIG_REPORT_TOKEN, to the members of CONFIG_MEMBER_URL; without one over MQTT.
func (b *Observer) newReporter() (err error) {
	if b.o.NodeID, err = process.NodeID(b.o); err != nil {
		return err
	}
	o := reporter.Options{
		Instance: b.o.InstanceName(), Node: func() string { return b.o.NodeID }, Labels: b.o.Labels, Services: b.services, Source: b.provider,
		Health: reporter.HealthCheck{URL: b.o.HealthURL}, Path: b.o.InstanceFile(), Now: b.o.Clock, Logger: b.log,
	}
	if b.o.HealthCmd != "" {
		if o.Health.Command, err = options.Words(b.o.HealthCmd); err != nil {
			return err
		}
	}
	if b.o.AckOpen {
		b.log.Warn("every process of this host may say that a version is applied or rejected: CONFIG_ACK_OPEN is set")
	}
	if token, _ := b.o.LookupEnv("CONFIG_REPORT_TOKEN"); token != "" {
		var members []*client.Client
		for _, address := range splitList(b.o.MemberURL) {
			c, err := client.New(client.Options{AdminURL: address, Token: token, Timeout: fetchTimeout, UserAgent: "holdfast-observer/" + b.o.Version})
			if err != nil {
				return conf.Errorf(conf.CodeUsage, "CONFIG_MEMBER_URL: %w", err).WithHint("write it as http://host:8081")
			}
			members = append(members, c)
		}
		if len(members) == 0 {
			return conf.Errorf(conf.CodeUsage, "CONFIG_REPORT_TOKEN is set, and no member to report to").WithHint("set CONFIG_MEMBER_URL")
		}
		o.Send = func(ctx context.Context, reports []conf.Report) (term uint64, err error) {
			err = errors.New("no member")
			for _, c := range members {
				if term, err = c.Report(ctx, reports); err == nil {
					return term, nil
				}
			}
			return 0, err
		}
	}
	if o.Send == nil && b.link.subscriber != nil {
		o.Send = b.publishReports
	}
	b.reporter = reporter.New(o)
	ack.Register(b.local, b.reporter, b.o.AckOpen)
	return nil
}

// publishReports reports at the broker. Who may write there may say anything, so that the
// leader shows these reports, and counts none.
func (b *Observer) publishReports(_ context.Context, reports []conf.Report) (term uint64, err error) {
	for i := range reports {
		payload, err := json.Marshal(&reports[i])
		if err != nil {
			return 0, err
		}
		b.link.subscriber.Report(broker.AckPrefix+reports[i].Service+"/"+reports[i].Instance, payload)
	}
	return 0, nil
}
