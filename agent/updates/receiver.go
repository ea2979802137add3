package updates

import (
	"crypto/ed25519"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// MaxAhead is how far a message may be dated ahead of the clock of this machine, if only
// its time orders it.
const MaxAhead = 5 * time.Minute

// Options of a Receiver. Services and Trust are required.
type Options struct {
	Services []string
	Trust    []ed25519.PublicKey
	// Accept is an epoch that the operator named: it is accepted without an epoch change,
	// unless it is a past one. With an empty data directory only this one is.
	Accept string
	// From the last-known-good file: the epoch, the past ones, and the records.
	Epoch   string
	Past    []string
	Records []*conf.Record
	// Learned is Receiver.Learned of an earlier run; it is verified again from Trust.
	Learned []conf.KeyInfo
	Now     func() time.Time // default time.Now
}

// Message is one received update. Only Payload is signed, and Version if VersionSignature is
// valid for it.
type Message struct {
	Service        string // of the topic
	Payload        []byte
	Version, Index uint64 // from the sender; 0 = unknown
	Deleted        bool   // a document without members is that of a deleted service

	VersionSignature string // "" = the version is not signed
	Channel          string // of what an agent serves alone, which is not taken; "" = stable
}

// Result is the result for one message.
type Result struct {
	Record *conf.Record // the new current record of its service; nil if nothing changed
	// Confirmed is the service whose current update this is, changed or not; "" for a
	// rejected message.
	Confirmed string
	Gap       bool   // versions between the previous record and this one were not received
	Reason    Reason // of a rejection, or ReasonVersion
	Service   string // of a message that was rejected by ReasonChannel
	Err       error  // why it was rejected, or nil
}

// Receiver has the current record of each service. Make it with New.
type Receiver struct {
	accept string
	now    func() time.Time

	mu         sync.Mutex
	roots      []ed25519.PublicKey // set by the operator
	trust      []ed25519.PublicKey // roots and the valid keys of learned; replaced, never changed in place
	learned    []conf.KeyInfo      // verified by roots
	services   map[string]bool
	epoch      string
	pastEpochs []string
	current    map[string]*conf.Record
	advanced   map[string]time.Time          // monotonic: when the record of the service, or its time, became newer
	started    time.Time                     // monotonic
	changes    map[string][]conf.EpochChange // verified, by the previous epoch
	pending    map[string]Message            // valid except for their epoch, the newest of each service
	rejected   map[Reason]uint64
	accepted   uint64
}

// New returns a Receiver with the records of o.
func New(o Options) (*Receiver, error) {
	if len(o.Trust) == 0 {
		return nil, conf.Errorf(conf.CodeUsage, "no public key to trust").
			WithHint("give the cluster's public key with --trust: /v1/keys of a member has it, and CONFIG_SIGNATURE_PUBLIC_KEY in its .env file")
	}
	r := &Receiver{
		roots: o.Trust, accept: o.Accept, now: o.Now, epoch: o.Epoch, pastEpochs: slices.Clone(o.Past), services: map[string]bool{},
		current: map[string]*conf.Record{}, advanced: map[string]time.Time{}, started: time.Now(), changes: map[string][]conf.EpochChange{}, pending: map[string]Message{}, rejected: map[Reason]uint64{},
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.adopt(o.Learned)
	for _, s := range o.Services {
		if err := conf.CheckService(s); err != nil {
			return nil, err
		}
		r.services[s] = true
	}
	for _, rec := range o.Records {
		if r.services[rec.Service] {
			r.current[rec.Service] = rec
		}
	}
	return r, nil
}

// Receive decides on a message from MQTT.
func (r *Receiver) Receive(m Message) Result {
	if m.Channel != "" { // it comes from the listener that is for the services beside an agent
		res := r.count(ReasonChannel, conf.Errorf(conf.CodeDenied, "the broker carries what its agent serves, and not what is stable: a %s of %s", conf.Clip(m.Channel), m.Service).
			WithHint("follow another address of that agent (CONFIG_MQTT_ADDR, not a loopback one), an external broker, or a member: --member"))
		res.Service = m.Service
		return res
	}
	trust := r.trusted()
	u, key, no := read(m.Payload, trust)
	return r.decide(withProvenVersion(m, u, trust), u, key, no)
}

// ReceiveDocument decides on a response of a member over HTTP.
func (r *Receiver) ReceiveDocument(service string, d conf.ReadResponse) Result {
	u := conf.Update{
		Version: seal.Format, Service: d.Service, Checksum: d.Metadata.Checksum, Epoch: d.Metadata.Epoch,
		IssuedAt: d.Metadata.IssuedAt, Signature: d.Metadata.Signature,
	}
	m := Message{Service: service, Version: d.Metadata.Version, VersionSignature: d.Metadata.VersionSignature}
	canonical, err := seal.CanonicalJSON(d.Config)
	if err != nil {
		return r.decide(m, u, "", &rejection{ReasonMalformed, conf.Errorf(conf.CodeMalformed, "%w", err)})
	}
	u.Config = canonical
	if u.Signature == "" {
		return r.decide(m, u, "", reject(ReasonUnsigned, conf.CodeDenied, "the member's document of %q has no signature", service))
	}
	trust := r.trusted()
	key, no := verify(u, trust)
	if no == nil { // as over MQTT, to retry it when its epoch is verified
		m.Payload, _ = seal.EncodeUpdate(u)
	}
	return r.decide(withProvenVersion(m, u, trust), u, key, no)
}

// ReceiveEpochChanges decides on a message of system/config-epoch. It returns the updates that a
// new epoch change makes acceptable.
func (r *Receiver) ReceiveEpochChanges(payload []byte) []Result {
	changes, err := seal.DecodeEpochs(payload)
	if err != nil {
		reason := ReasonMalformed
		if conf.CodeOf(err) == conf.CodeTooLarge {
			reason = ReasonTooLarge
		}
		return []Result{r.count(reason, conf.Errorf(conf.CodeOf(err), "changes of the epoch: %w", err))}
	}
	var out []Result
	r.mu.Lock()
	for _, c := range changes {
		if slices.ContainsFunc(r.changes[c.Previous], func(o conf.EpochChange) bool { return o.Epoch == c.Epoch }) {
			continue
		}
		if reason, err := r.verifyChange(c); err != nil {
			r.rejected[reason]++
			out = append(out, Result{Reason: reason, Err: err})
			continue
		}
		r.changes[c.Previous] = append(r.changes[c.Previous], c)
	}
	waiting := r.pending
	r.pending = map[string]Message{}
	r.mu.Unlock()
	for _, m := range waiting {
		if v := r.retry(m); v.Confirmed != "" {
			out = append(out, v)
		}
	}
	return out
}

func (r *Receiver) verifyChange(c conf.EpochChange) (Reason, error) {
	var err error
	for _, k := range r.trust {
		if err = seal.VerifyEpoch(k, c); err == nil {
			break
		}
	}
	switch at, terr := conf.ParseTime(c.At); {
	case conf.CodeOf(err) == conf.CodeDenied:
		return ReasonSignature, err
	case err != nil || terr != nil:
		return ReasonMalformed, conf.Errorf(conf.CodeCorrupt, "a change of the epoch is damaged: %w", err)
	case at.After(r.now().Add(MaxAhead)):
		return ReasonFuture, conf.Errorf(conf.CodeDenied, "the change to the epoch %s is dated %s, ahead of this clock", c.Epoch, c.At)
	}
	return "", nil
}

// retry decides again on a message whose epoch was not verified. It counts the message
// again only if it is rejected for another reason.
func (r *Receiver) retry(m Message) Result {
	r.mu.Lock()
	before := r.rejected[ReasonEpoch]
	r.mu.Unlock()
	v := r.Receive(m)
	if v.Reason == ReasonEpoch {
		r.mu.Lock()
		r.rejected[ReasonEpoch] = before
		r.mu.Unlock()
	}
	return v
}

func (r *Receiver) count(reason Reason, err error) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected[reason]++
	return Result{Reason: reason, Err: err}
}

// decide decides on an update whose bytes are verified, unless no is set.
func (r *Receiver) decide(m Message, u conf.Update, key string, no *rejection) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if no == nil {
		no = r.check(m, u)
	}
	if no != nil {
		r.rejected[no.reason]++
		return Result{Reason: no.reason, Err: no.err}
	}
	have := r.current[u.Service]
	r.enter(u.Epoch)
	if have != nil && have.Epoch != u.Epoch {
		have = nil
	}
	v := Result{Confirmed: u.Service}
	if have != nil && have.IssuedAt == u.IssuedAt && (m.VersionSignature == "" || have.VersionSignature != "") {
		return v
	}
	rec := &conf.Record{
		Service: u.Service, Version: m.Version, Epoch: u.Epoch, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt,
		Signature: u.Signature, KeyID: key, UpdatedAt: u.IssuedAt, Index: m.Index, Deleted: m.Deleted && string(u.Config) == "{}",
		VersionSignature: m.VersionSignature,
	}
	r.number(rec, have, &v)
	delete(r.pending, u.Service)
	r.current[u.Service] = rec
	r.advanced[u.Service] = time.Now()
	r.accepted++
	v.Record = rec
	return v
}

// maxVersion bounds an unsigned version. One near the limit of exact integers in JSON
// would leave no room for later versions.
const maxVersion = 1 << 52

// number sets the version of rec. Without a signature that of the sender may skip versions,
// but never decrease.
func (r *Receiver) number(rec, have *conf.Record, v *Result) {
	if rec.VersionSignature != "" || have != nil && have.VersionSignature != "" {
		if rec.VersionSignature == "" { // only reissued: see order
			rec.Version, rec.Index, rec.VersionSignature = have.Version, have.Index, have.VersionSignature
		}
		if have != nil {
			if v.Gap = rec.Version > have.Version+1; have.Checksum == rec.Checksum && have.Version == rec.Version {
				rec.UpdatedAt = have.UpdatedAt
			}
		}
		return
	}
	least := uint64(1)
	if have != nil {
		if least = have.Version; have.Checksum != rec.Checksum || have.Deleted != rec.Deleted {
			least++
		} else {
			rec.UpdatedAt = have.UpdatedAt // only reissued
		}
		v.Gap = rec.Version > have.Version+1
	}
	if rec.Version >= least && rec.Version <= maxVersion {
		return
	}
	if rec.Version > 0 {
		v.Reason, v.Gap = ReasonVersion, true
		r.rejected[ReasonVersion]++
	}
	rec.Version = least
}

// check compares u with the current state.
func (r *Receiver) check(m Message, u conf.Update) *rejection {
	if u.Service != m.Service || !r.services[u.Service] {
		return reject(ReasonService, conf.CodeDenied, "a message of %s is the update of %q", m.Service, u.Service)
	}
	at, err := conf.ParseTime(u.IssuedAt)
	if err != nil {
		return reject(ReasonMalformed, conf.CodeMalformed, "issued_at of %q: %v", u.Service, err)
	}
	if m.VersionSignature == "" && r.isAhead(at) {
		return future(u)
	}
	if !r.epochReachable(u.Epoch) {
		if m.Payload != nil {
			if was, ok := r.pending[u.Service]; !ok || len(was.Payload) == 0 || newer(u, was) {
				r.pending[u.Service] = m
			}
		}
		return &rejection{ReasonEpoch, r.wrongEpoch(u)}
	}
	if have := r.current[u.Service]; have != nil && have.Epoch == u.Epoch {
		return r.order(m, u, at, have)
	}
	return nil
}

// newer reports whether u was issued after the pending message.
func newer(u conf.Update, was Message) bool {
	w, err := seal.DecodeUpdate(was.Payload)
	return err != nil || u.IssuedAt > w.IssuedAt
}

func (r *Receiver) wrongEpoch(u conf.Update) *conf.Error {
	e := conf.Errorf(conf.CodeDenied, "the update of %q is of the epoch %s, and no trusted epoch change leads to it from %s", u.Service, u.Epoch, r.epoch)
	if slices.Contains(r.pastEpochs, u.Epoch) {
		return conf.Errorf(conf.CodeDenied, "the update of %q is of the epoch %s, which was left: it is replayed, or the broker still has it", u.Service, u.Epoch).
			WithHint("if it is the right one, start with an empty data directory")
	}
	if r.epoch == "" {
		e = conf.Errorf(conf.CodeDenied, "the update of %q is of the epoch %s, and this agent is set to accept %s", u.Service, u.Epoch, r.accept)
	}
	return e.WithHint("when the store was restored or rebuilt, start once with --accept-epoch %s", u.Epoch)
}

// epochReachable reports whether the epoch may be entered from the current one.
func (r *Receiver) epochReachable(epoch string) bool {
	switch {
	case epoch == r.epoch:
		return true
	case slices.Contains(r.pastEpochs, epoch):
		return false
	case epoch == r.accept:
		return true
	case r.epoch == "" && r.accept == "":
		return true
	}
	from := r.epoch
	if from == "" {
		from = r.accept
	}
	return r.epochFollows(from, epoch, len(r.changes)+1)
}

// epochFollows looks for a chain of verified changes without past epochs.
func (r *Receiver) epochFollows(from, to string, steps int) bool {
	if steps == 0 {
		return false
	}
	for _, c := range r.changes[from] {
		if !slices.Contains(r.pastEpochs, c.Epoch) && (c.Epoch == to || r.epochFollows(c.Epoch, to, steps-1)) {
			return true
		}
	}
	return false
}

// enter makes epoch the current one.
func (r *Receiver) enter(epoch string) {
	if epoch == r.epoch {
		return
	}
	if r.epoch != "" {
		r.pastEpochs = append(r.pastEpochs, r.epoch)
	}
	r.epoch = epoch
}

// Past returns the past epochs, the oldest first.
func (r *Receiver) Past() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pastEpochs)
}

// Stats returns the number of accepted updates, and of rejected ones by reason.
func (r *Receiver) Stats() (taken uint64, refused map[Reason]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused = make(map[Reason]uint64, len(Reasons()))
	for _, reason := range Reasons() {
		refused[reason] = r.rejected[reason]
	}
	return r.accepted, refused
}
