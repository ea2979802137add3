package instances

import (
	"encoding/json"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxMessage is the size of a report over MQTT that is read.
const maxMessage = 64 << 10

// TakeMessage takes a report that somebody has published for the topic of a service and an
// instance: SERVICE/INSTANCE. known says whether there is a service, isMember whether a name
// is that of a member, which speaks for itself.
func (t *Table) TakeMessage(topic string, payload []byte, known, isMember func(name string) bool) error {
	service, instance, ok := strings.Cut(topic, "/")
	if !ok || len(payload) == 0 || len(payload) > maxMessage { // empty: it was removed
		return nil
	}
	var r conf.Report
	if err := json.Unmarshal(payload, &r); err != nil { // what a later build adds is left out
		return conf.Errorf(conf.CodeMalformed, "the report is not one: %w", err)
	}
	if err := r.Check(); err != nil {
		return err
	}
	if r.Service != service || r.Instance != instance {
		return conf.Errorf(conf.CodeInvalid, "the report is of another instance than its topic")
	}
	if !known(r.Service) || isMember(r.Node) || isMember(r.Instance) {
		return conf.Errorf(conf.CodeDenied, "there is no such service, or the instance has the name of a member")
	}
	return t.Hear(KindMQTT, &r)
}
