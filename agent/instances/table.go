package instances

import (
	"container/list"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Kinds of instances.
const (
	KindMember   = "member"   // reports on the cluster port; the only kind that may be a target
	KindObserver = "observer" // reports with a token
	KindMQTT     = "mqtt"     // reports over MQTT: shown, and no approval
)

const (
	lostAfter = 90 * time.Second // three reports that did not come
	goneAfter = 24 * time.Hour

	maxPerService = 4096     // instances that are no members, of one service
	maxInstances  = 20_000   // that are no members, of all services
	maxBytes      = 64 << 20 // of the reports of all that are no members
	maxServices   = 64       // that one member is an instance of
)

// Heard is what one instance reported last.
type Heard struct {
	conf.Report
	Kind string
	At   time.Time // when it was heard last, by the clock of the leader
	Lost bool      // nothing was heard for 90 s
}

// Table is what the leader of one term has heard. The zero value is not usable; call New.
type Table struct {
	now func() time.Time

	mu       sync.Mutex
	term     uint64    // 0: this agent does not lead
	beganAt  time.Time // the term
	services map[string]*service
	oldest   *list.List          // of *entry, in the order in which they were heard
	members  map[string][]*entry // by node
	count    int                 // of those that are no members
	bytes    int                 // and of them
	feed     feed
}

// service has the instances of one service.
type service struct {
	name     string
	entries  map[string]*entry // by keyOf
	strange  int               // of them are no members
	changed  chan struct{}
	position uint64 // of its last change in the feed
}

// entry is an instance.
type entry struct {
	Heard
	key  string
	size int
	past string               // the boot before this one
	read map[string]time.Time // when keys were read, by the clock of the leader at most
	at   *list.Element
	of   *service
}

// New makes a table that is empty until Begin.
func New(now func() time.Time) *Table {
	return &Table{now: now, services: map[string]*service{}, oldest: list.New(), members: map[string][]*entry{}, feed: newFeed()}
}

// Of returns the instances of a service, in the order of their names. The reports are
// shared: they must not be changed.
func (t *Table) Of(name string) []Heard {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.services[name]
	if s == nil {
		return nil
	}
	out := make([]Heard, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, e.Heard)
	}
	slices.SortFunc(out, func(a, b Heard) int {
		if c := strings.Compare(a.Instance, b.Instance); c != 0 {
			return c
		}
		return strings.Compare(a.Kind+a.Node, b.Kind+b.Node)
	})
	return out
}

// Changed returns a channel that is closed when what Of returns has changed in more than
// its times, and when the term ends. Get it before Of.
func (t *Table) Changed(name string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of(name).changed
}

// Term is the term that the table is of, 0 while this agent does not lead.
func (t *Table) Term() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term
}

// Begin empties the table for another term; 0 ends the last one.
func (t *Table) Begin(term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term == term {
		return
	}
	for _, s := range t.services {
		close(s.changed)
	}
	t.beganAt = t.now()
	t.term, t.services, t.members, t.count, t.bytes = term, map[string]*service{}, map[string][]*entry{}, 0, 0
	t.oldest.Init()
	t.feed.reset()
}

// began is when the term began.
func (t *Table) began() (time.Time, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beganAt, t.term
}

// of returns a service, a new one when there is none.
func (t *Table) of(name string) *service {
	s := t.services[name]
	if s == nil {
		s = &service{name: name, entries: map[string]*entry{}, changed: make(chan struct{})}
		t.services[name] = s
	}
	return s
}

// keyOf separates the names that members, and others, have chosen.
func keyOf(kind string, r *conf.Report) string {
	if kind == KindMember {
		return "m " + r.Node
	}
	return "o " + r.Instance
}

// Hear takes a checked report. It is refused when the table is full, and ignored when it
// is of another term, or older than what was heard.
func (t *Table) Hear(kind string, r *conf.Report) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term == 0 || kind != KindMQTT && r.Term != t.term {
		return nil
	}
	now := t.now()
	s := t.of(r.Service)
	e := s.entries[keyOf(kind, r)]
	if e != nil && e.precedes(kind, r) {
		return nil
	}
	size := sizeOf(r)
	if e == nil {
		if err := t.room(s, kind, r, size); err != nil {
			return err
		}
		e = &entry{key: keyOf(kind, r), of: s}
		t.insert(e, kind, r.Node)
	} else if kind != KindMember && t.bytes+size-e.size > maxBytes {
		return errFull("bytes")
	}
	changed := e.Kind != kind || e.Lost || differs(&e.Report, r)
	if e.Boot != r.Boot {
		e.past = e.Boot
	}
	if kind != KindMember {
		t.bytes += size - e.size
	}
	e.note(r.Reads, now)
	e.Heard, e.size = Heard{Report: *r, Kind: kind, At: now}, size
	e.Reads = nil
	t.oldest.MoveToBack(e.at)
	if changed {
		t.change(s)
	}
	return nil
}

// precedes reports whether what a report says is known already, or outdated.
func (e *entry) precedes(kind string, r *conf.Report) bool {
	if kind == KindMQTT && e.Kind == KindObserver && !e.Lost {
		return true
	}
	if e.Kind != kind {
		return false
	}
	return r.Boot == e.Boot && r.Seq <= e.Seq || r.Boot == e.past && r.Boot != e.Boot
}

func (t *Table) insert(e *entry, kind, node string) {
	e.of.entries[e.key] = e
	e.at = t.oldest.PushBack(e)
	if kind == KindMember {
		t.members[node] = append(t.members[node], e)
		return
	}
	e.of.strange++
	t.count++
}

// room makes room for one more, which is that of the instance of all that is lost for
// longest when there is none.
func (t *Table) room(s *service, kind string, r *conf.Report, size int) error {
	if kind == KindMember {
		if len(t.members[r.Node]) >= maxServices {
			return errFull("services of one member")
		}
		return nil
	}
	for s.strange >= maxPerService || t.count >= maxInstances || t.bytes+size > maxBytes {
		victim := t.lostStranger(s, s.strange >= maxPerService)
		if victim == nil {
			return errFull("instances")
		}
		t.remove(victim)
	}
	return nil
}

// lostStranger is the one that is lost for longest, of s alone when there are too many of
// it.
func (t *Table) lostStranger(s *service, own bool) *entry {
	for at := t.oldest.Front(); at != nil; at = at.Next() {
		switch e := at.Value.(*entry); {
		case !e.Lost:
			return nil // nor is any behind it
		case e.Kind != KindMember && (!own || e.of == s):
			return e
		}
	}
	return nil
}

func errFull(what string) error {
	return conf.Errorf(conf.CodeRateLimited, "the leader has as many %s of reports as it keeps", what).
		WithHint("instances that are silent make room after %s; see: holdfast instances", lostAfter)
}

// change wakes who waits for a service.
func (t *Table) change(s *service) {
	close(s.changed)
	s.changed = make(chan struct{})
	t.feed.add(s)
}

// remove forgets an instance.
func (t *Table) remove(e *entry) {
	delete(e.of.entries, e.key)
	t.oldest.Remove(e.at)
	if e.Kind == KindMember {
		left := slices.DeleteFunc(t.members[e.Node], func(other *entry) bool { return other == e })
		if t.members[e.Node] = left; len(left) == 0 {
			delete(t.members, e.Node)
		}
	} else {
		e.of.strange--
		t.count--
		t.bytes -= e.size
	}
	t.change(e.of)
}

// Member is a member of the cluster and the service beside it.
type Member struct{ Node, Service, Addr string }

// sweep marks who is lost, and forgets who is gone. It looks at those alone, at one more, and
// at the members. A member that has not reported in this term is lost too.
func (t *Table) sweep(members []Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for at := t.oldest.Front(); at != nil; {
		e, next := at.Value.(*entry), at.Next()
		silent := now.Sub(e.At)
		if silent < lostAfter {
			break
		}
		switch {
		case silent >= goneAfter:
			t.remove(e)
		case !e.Lost:
			e.Lost = true
			t.change(e.of)
		}
		at = next
	}
	present := make(map[string]bool, len(members))
	for _, m := range members {
		present[m.Node] = true
		if m.Service != "" && t.term != 0 && now.Sub(t.beganAt) >= lostAfter {
			t.miss(m)
		}
	}
	for node, entries := range t.members {
		if present[node] {
			continue
		}
		for _, e := range slices.Clone(entries) {
			t.remove(e)
		}
	}
}

// miss adds an instance of which only the list of members knows.
func (t *Table) miss(m Member) {
	r := conf.Report{Instance: m.Node, Node: m.Node, Service: m.Service}
	s := t.of(m.Service)
	if s.entries[keyOf(KindMember, &r)] != nil {
		return
	}
	e := &entry{key: keyOf(KindMember, &r), of: s, Heard: Heard{Report: r, Kind: KindMember, At: t.beganAt, Lost: true}}
	t.insert(e, KindMember, m.Node)
	t.oldest.MoveToFront(e.at)
	t.change(s)
}

// differs reports whether two reports of an instance say different things.
func differs(a, b *conf.Report) bool {
	x, y := *a, *b
	x.ReportOrder, x.Reads = conf.ReportOrder{}, nil
	y.ReportOrder, y.Reads = conf.ReportOrder{}, nil
	before, _ := json.Marshal(x) // strings and numbers
	after, _ := json.Marshal(y)
	return string(before) != string(after)
}

// sizeOf is about what a report takes in memory.
func sizeOf(r *conf.Report) int {
	n := 512 + len(r.Instance) + len(r.Node) + len(r.Service) + len(r.Epoch) + len(r.Reason) + len(r.Worker) + len(r.Boot) + len(r.Since)
	for k, v := range r.Labels {
		n += 64 + len(k) + len(v)
	}
	for _, d := range r.Details {
		n += 32 + len(d.Key) + len(d.Message)
	}
	return n
}
