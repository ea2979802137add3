package replica

import (
	"crypto/ed25519"
	"log/slog"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// alarms are those of the supervisor: they outlive a replica, because the next one is what
// ends most of them.
type alarms struct {
	replica *alarm.Set // what is wrong with it, and "defaults" for what is served instead
	states  *alarm.Set
	signers *alarm.Set // by key
	schemas *alarm.Set // by service, or the directory
}

func newAlarms(log *slog.Logger) alarms {
	return alarms{replica: alarm.NewSet(log), states: alarm.NewSet(log), signers: alarm.NewSet(log), schemas: alarm.NewSet(log)}
}

// reportSigners takes the unknown keys, each with a service that it signed.
func (a *alarms) reportSigners(unknown map[string]string) {
	for _, id := range conf.SortedKeys(unknown) {
		a.signers.Raise(alarm.UnknownSigner, id, nil, "key_id", id, "such_as", unknown[id])
	}
	a.signers.Only("", conf.SortedKeys(unknown)...)
}

// checkSigners ends the alarm of an unknown key when nothing that is served is signed by
// it any more.
func (s *Supervisor) checkSigners(trusted map[string]ed25519.PublicKey) {
	unknown := map[string]string{}
	for _, rec := range (documents.Records{View: s.o.View}).Services() {
		for id := range rec.KeyIDs() {
			if trusted[id] == nil {
				unknown[id] = rec.Service
			}
		}
	}
	s.alarms.signers.Only("", conf.SortedKeys(unknown)...)
}
