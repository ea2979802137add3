package broker

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Topics.
const (
	ConfigPrefix = "system/config/"               // + service
	HealthTopic  = "system/health/config-manager" // conf.Health
	EpochTopic   = "system/config-epoch"          // the signed changes of the epoch, seal.EncodeEpochs
)

// Source provides what the brokers serve: the view and the health of the agent. Both methods
// are level-triggered: a channel is closed when a newer state can be loaded; the caller loads
// the newest, and may skip states.
type Source interface {
	// Load returns the newest state. prev is the Cursor of an earlier state, or nil; records
	// that are the same in both may be left out.
	Load(prev any) State
	// Health returns the current health, and a channel that is closed at its next
	// transition.
	Health() (conf.Health, <-chan struct{})
}

// State is the state of all services at one moment.
type State struct {
	Epoch   string
	Changes []conf.EpochChange     // of the epoch, the oldest first; the same in each state of an epoch
	Cursor  any                    // for the next Load; not nil
	Records iter.Seq[*conf.Record] // tombstones too; in any order
	Changed <-chan struct{}        // closed when a newer state can be loaded
}

// message is one retained message. It is immutable.
type message struct {
	topic   string
	payload []byte
	user    [][2]string  // MQTT 5 user properties
	props   []byte       // user, encoded
	record  *conf.Record // nil for health
}

func newMessage(topic string, payload []byte, r *conf.Record) *message {
	m := &message{topic: topic, payload: payload, record: r}
	if r != nil {
		m.user = [][2]string{
			{"config-version", strconv.FormatUint(r.Version, 10)},
			{"config-index", strconv.FormatUint(r.Index, 10)},
			{"key-id", r.KeyID},
		}
		if r.VersionSignature != "" {
			m.user = append(m.user, [2]string{"version-signature", r.VersionSignature})
		}
		if channel := r.Channel(); channel != "" {
			m.user = append(m.user, [2]string{"config-channel", channel})
		}
		if r.Deleted { // a service that exists may have an empty document too
			m.user = append(m.user, [2]string{"config-deleted", "true"})
		}
	}
	for _, p := range m.user {
		m.props = appendString(appendString(append(m.props, propUser), p[0]), p[1])
	}
	return m
}

func healthMessage(h conf.Health) (*message, error) {
	payload, err := json.Marshal(h)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "health: %w", err)
	}
	return newMessage(HealthTopic, payload, nil), nil
}

// messageCache follows the services of a Source and makes each signed message once. It
// belongs to one goroutine.
type messageCache struct {
	source  Source
	alarms  *alarm.Set // by topic
	mark    any
	epoch   string
	changes int                 // of the epoch, in its message
	newest  map[string]*message // by topic, without health
	health  *message
}

// delta is the result of one sync.
type delta struct {
	changed []*message
	gone    []string // topics of another epoch
	next    <-chan struct{}
}

// sync catches up with the source.
func (f *messageCache) sync() delta {
	st := f.source.Load(f.mark)
	whole := f.mark == nil
	if st.Epoch != f.epoch && !whole {
		// Another epoch replaces everything, so everything must be loaded.
		st, whole = f.source.Load(nil), true
	}
	d := delta{next: st.Changed}
	if f.newest == nil {
		f.newest = make(map[string]*message)
	}
	var seen map[string]bool
	if whole {
		seen = make(map[string]bool, len(f.newest))
	}
	if len(st.Changes) > 0 && (whole || len(st.Changes) != f.changes) {
		f.syncEpochs(st.Changes, &d)
	}
	for r := range st.Records {
		if r.Signature == "" {
			continue // not configured yet: there is nothing signed
		}
		topic := ConfigPrefix + r.Service
		if whole {
			seen[topic] = true
		}
		old := f.newest[topic]
		if old != nil && old.record == r {
			continue
		}
		payload, eerr := seal.EncodeUpdate(r.Update())
		if eerr != nil {
			f.alarms.Raise(alarm.NotEncoded, topic, eerr, "topic", topic)
			continue
		}
		f.alarms.Clear(topic)
		m := newMessage(topic, payload, r)
		f.newest[topic] = m
		if old == nil || !bytes.Equal(old.payload, payload) || !bytes.Equal(old.props, m.props) {
			d.changed = append(d.changed, m)
		}
	}
	if whole {
		for topic := range f.newest {
			if !seen[topic] && topic != EpochTopic {
				delete(f.newest, topic)
				d.gone = append(d.gone, topic)
			}
		}
	}
	f.mark, f.epoch = st.Cursor, st.Epoch
	return d
}

// syncHealth returns the health message if repeat is set or it has changed, else nil, and
// the channel of the next transition.
func (f *messageCache) syncHealth(repeat bool) (*message, <-chan struct{}) {
	h, next := f.source.Health()
	m, err := healthMessage(h)
	if err != nil {
		f.alarms.Raise(alarm.NotEncoded, HealthTopic, err, "topic", HealthTopic)
		return nil, next
	}
	f.alarms.Clear(HealthTopic)
	if !repeat && f.health != nil && bytes.Equal(f.health.payload, m.payload) {
		return nil, next
	}
	f.health = m
	return m, next
}

// syncEpochs puts the message of the epoch changes before the updates of the epoch.
func (f *messageCache) syncEpochs(changes []conf.EpochChange, d *delta) {
	f.changes = len(changes)
	payload, err := seal.EncodeEpochs(changes)
	if err != nil {
		f.alarms.Raise(alarm.NotEncoded, EpochTopic, err, "topic", EpochTopic)
		return
	}
	f.alarms.Clear(EpochTopic)
	if old := f.newest[EpochTopic]; old == nil || !bytes.Equal(old.payload, payload) {
		m := newMessage(EpochTopic, payload, nil)
		f.newest[EpochTopic] = m
		d.changed = append(d.changed, m)
	}
}
