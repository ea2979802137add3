package agent

import (
	"net/url"

	"github.com/holdfast-config/holdfast/agent/backend"
	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/certfile"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// brokers are what an agent has of MQTT. What is off is nil.
type brokers struct {
	main      *broker.Broker
	local     *broker.Broker // for the services beside an agent whose main one is for others
	publisher *broker.Publisher
}

// buildBrokers makes the embedded brokers and the publisher to an external one, as far as
// the settings ask for them.
//
// A listener on a loopback address is for the services beside this agent, and carries what
// it serves. Others are for observers, and carry what is stable.
func (a *Agent) buildBrokers() (err error) {
	if options.IsOn(a.o.MQTTAddr) {
		a.mqtt.main, err = a.newBroker(a.o.MQTTAddr, "CONFIG_MQTT_ADDR")
		if err != nil && a.o.MQTTAddr == options.Defaults().MQTTAddr && a.o.MQTTUser == "" && a.o.MQTTCert == "" {
			// Nobody asked for it: a broker of the user's own on the usual port must not
			// keep the agent down.
			a.log.Warn("the embedded MQTT broker is off: its usual address is taken", "addr", a.o.MQTTAddr, "err", err)
			a.mqtt.main, err = nil, nil
		}
		if err != nil {
			return err
		}
	}
	if options.IsOn(a.o.MQTTLocalAddr) {
		if a.mqtt.local, err = a.newBroker(a.o.MQTTLocalAddr, "CONFIG_MQTT_LOCAL_ADDR"); err != nil {
			return err
		}
	}
	if a.o.MQTTURL == "" || a.cluster.Port.Identity().Role == conf.MemberSidecar {
		return nil
	}
	if _, err := url.Parse(a.o.MQTTURL); err != nil {
		return conf.Errorf(conf.CodeUsage, "MQTT_URL is not a URL").WithHint("write it as mqtt://user:password@host:1883 or mqtts://host:8883")
	}
	config, err := a.o.BrokerTLS()
	if err != nil {
		return err
	}
	a.mqtt.publisher, err = broker.NewPublisher(broker.PublisherOptions{
		URL: a.o.MQTTURL, TLS: config, Source: a.brokerProvider(a.rooms.view), Leading: a.cluster.Leadership,
		ClientID: "holdfast-" + a.cluster.Port.Identity().ClusterID[:8], Logger: a.log,
	})
	return err
}

func (a *Agent) brokerProvider(v *documents.View) backend.BrokerProvider {
	return backend.BrokerProvider{Backend: a.backend, View: v}
}

// newBroker makes the embedded broker of one address.
func (a *Agent) newBroker(addr, setting string) (*broker.Broker, error) {
	view := a.rooms.view
	if options.IsLoopback(addr) {
		view = a.rooms.served.Views().Served
	}
	bo := broker.Options{
		Addr: addr, User: a.o.MQTTUser, Password: a.o.MQTTPassword, Source: a.brokerProvider(view), Logger: a.log,
		Limits: broker.Limits{Connections: a.limits.ports.Max(connlimit.MQTT)}, OnFull: a.full(connlimit.MQTT),
	}
	if a.o.MQTTCert != "" || a.o.MQTTKey != "" {
		var err error
		if bo.TLS, err = certfile.Server("the MQTT broker", "CONFIG_MQTT", a.o.MQTTCert, a.o.MQTTKey, a.log); err != nil {
			return nil, err
		}
	}
	b, err := broker.New(bo)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "MQTT: %w", err).WithHint("stop what uses %s, set %s, or turn the broker off with %s=none", addr, setting, setting)
	}
	return b, nil
}

// embedded are the embedded brokers that are on.
func (b *brokers) embedded() (list []*broker.Broker) {
	for _, one := range []*broker.Broker{b.main, b.local} {
		if one != nil {
			list = append(list, one)
		}
	}
	return list
}
