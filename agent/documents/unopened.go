package documents

import (
	"errors"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// UnopenedSecret is a stored secret that this agent cannot open.
type UnopenedSecret struct {
	Service, Key, KeyID string
	NoKey               bool // this agent lacks the master key; else the secret is damaged
}

// Unopened lists the secrets that are missing from the documents of a snapshot.
func (s *Secrets) Unopened(snap *Snapshot) []UnopenedSecret { return s.unopened.now(snap) }

// IsIncomplete reports whether a secret is missing from the document of this record.
func (s *Secrets) IsIncomplete(rec *conf.Record) bool { return s.unopened.of(rec) }

// alarmUnopened raises an alarm for each secret of a service that cannot be opened, and
// ends those of the others.
func (s *Secrets) alarmUnopened(service string, unopened []UnopenedSecret) {
	group := "secret " + service + " "
	var subjects []string
	for _, u := range unopened {
		why := "it is damaged"
		if u.NoKey {
			why = "this agent does not hold the master key " + u.KeyID
		}
		subjects = append(subjects, group+u.Key)
		s.alarms.Raise(alarm.SecretNotServed, group+u.Key, errors.New(why), "service", service, "key", u.Key)
	}
	s.alarms.Only(group, subjects...)
}
