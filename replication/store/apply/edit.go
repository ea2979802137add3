package apply

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/search"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// How many versions a service has, and how many request results there are. Both count
// rows, not time, so that every node removes the same ones.
const (
	KeepVersions = 1000
	KeepRequests = 10000
)

// editTx applies one Edit.
type editTx struct {
	*tx
	c     *command.Edit
	index uint64
}

// apply applies all of the edit or, with a rejection, nothing.
func (t *editTx) apply() (command.Result, []string, error) {
	c := t.c
	if c.ID != "" {
		was, ok, err := tables.ReadRequest(t.ctx, t.w, t.dig, c.ID)
		if err != nil || ok {
			return was, nil, err
		}
	}
	if t.st.Epoch == "" || c.Epoch != t.st.Epoch {
		return command.Result{}, nil, rejection{conf.Errorf(conf.CodeConflict, "the change was made for the epoch %q, the store has %q", c.Epoch, t.st.Epoch).
			WithHint("read the configuration again and repeat the change")}
	}
	res := command.Result{Index: t.index}
	staged, err := t.stagedServices()
	if err != nil {
		return res, nil, err
	}
	changes, err := t.putSchemas()
	if err != nil {
		return res, nil, err
	}
	for i := range c.Updates {
		u := &c.Updates[i]
		if _, twice := res.Versions[u.Service]; twice {
			return res, nil, reject(conf.CodeInvalid, "%s is changed twice in one edit", u.Service)
		}
		if err := t.update(u, changes[u.Service]); err != nil {
			return res, nil, err
		}
		if res.Versions == nil {
			res.Versions = map[string]uint64{}
		}
		res.Versions[u.Service] = u.Version
	}
	if err := t.putSecrets(res.Versions); err != nil {
		return res, nil, err
	}
	touched := conf.SortedKeys(res.Versions)
	for _, service := range conf.SortedKeys(changes) {
		if _, done := res.Versions[service]; done {
			continue
		}
		touched = append(touched, service)
		if err := t.reproject(service, changes[service]); err != nil {
			return res, nil, err
		}
	}
	for _, was := range staged {
		if err := settle(t.tx, was); err != nil {
			return res, nil, err
		}
	}
	if err := t.putProfiles(); err != nil {
		return res, nil, err
	}
	if err := t.audit(c.Audit); err != nil {
		return res, nil, err
	}
	if c.ID != "" {
		if err := t.storeResult(c.ID, t.index, res.Versions); err != nil {
			return res, nil, err
		}
	}
	return res, touched, nil
}

// schemaChange is what an edit does to the schema of a service; nil for none.
type schemaChange struct{ old, new json.RawMessage }

// putSchemas stores the schemas that differ from the stored ones.
func (t *editTx) putSchemas() (map[string]*schemaChange, error) {
	c := t.c
	var changes map[string]*schemaChange
	for _, sc := range c.Schemas {
		sha := sha256.Sum256(sc.Schema)
		hash := hex.EncodeToString(sha[:])
		old, err := t.read(tables.Schemas, sc.Service)
		if err != nil {
			return nil, err
		}
		if old != nil && old.Text(2) == hash {
			continue
		}
		if changes[sc.Service] != nil {
			return nil, reject(conf.CodeInvalid, "the schema of %s is changed twice in one edit", sc.Service)
		}
		if err := t.schemaMayChange(sc.Service); err != nil {
			return nil, err
		}
		ch := &schemaChange{new: sc.Schema}
		if old != nil {
			ch.old = json.RawMessage(old.Text(1))
		}
		if changes == nil {
			changes = map[string]*schemaChange{}
		}
		changes[sc.Service] = ch
		if err := t.upsert(tables.Schemas, old, sc.Service, string(sc.Schema), hash, c.At, tables.Null(c.By)); err != nil {
			return nil, err
		}
	}
	if changes != nil {
		// Counted by the edit and not by the batch: nodes batch differently.
		t.st.Version++
		t.st.VersionAt = c.At
		t.schemas = true
	}
	return changes, nil
}

// update stores the new version of one service. It rejects before it changes
// anything.
func (t *editTx) update(u *command.Update, ch *schemaChange) error {
	c := t.c
	cur, err := t.record(u.Service)
	if err != nil {
		return err
	}
	var current uint64
	var was conf.Record
	if cur.Record != nil {
		was, current = *cur.Record, cur.Record.Version
	}
	ro := running(cur.Record)
	if ro != nil && !c.Replace {
		return rejection{conf.RolloutActive(u.Service, ro.ID)}
	}
	if u.Prev != current {
		return rejection{&conf.Error{
			Code: conf.CodeConflict, Current: current,
			Message: u.Service + " was changed by another write",
			Hint:    "read it again and repeat the change on the current version",
		}}
	}
	if floor := was.Floor(); u.Version != floor+1 {
		return reject(conf.CodeInvalid, "%s: version %d does not follow %d", u.Service, u.Version, floor)
	}
	config, values := u.Config, u.Values
	if u.Deleted {
		config, values = json.RawMessage("{}"), json.RawMessage("{}")
	}
	if config == nil || values == nil {
		return reject(conf.CodeInvalid, "%s: version %d has no document", u.Service, u.Version)
	}
	at, by := cmp.Or(u.UpdatedAt, c.At), cmp.Or(u.UpdatedBy, c.By)
	rec := &conf.Record{
		Service: u.Service, Version: u.Version, Epoch: t.st.Epoch, Values: values, Config: config,
		Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: u.KeyID,
		UpdatedAt: at, UpdatedBy: by, Deleted: u.Deleted, Index: t.index, Schema: was.Schema, Secrets: was.Secrets, Staged: was.Staged,
		VersionSignature: u.VersionSignature,
	}
	before, after, err := t.itemsOf(&was, rec, cur.Stored, ch)
	if err != nil {
		return err
	}
	if ro != nil {
		if err := t.endRollout(u.Service, ro, end{conf.RolloutSuperseded, "replaced by version " + strconv.FormatUint(u.Version, 10), c.By, c.At}); err != nil {
			return err
		}
	}
	if err := t.write(cur, rec, change{at, by, before, after}); err != nil {
		return err
	}
	if u.Deleted {
		return t.dropSecrets(u)
	}
	return nil
}

// change is what the history has of a new version.
type change struct {
	at, by        string
	before, after []conf.Item
}

// write stores rec as the next version of its service, in place of cur.
func (t *editTx) write(cur *tables.StoredRecord, rec *conf.Record, ch change) error {
	digest, err := t.putConfig(cur, rec)
	if err != nil {
		return err
	}
	version := int64(rec.Version) //nolint:gosec // fits
	err = t.insert(tables.Versions, rec.Service, version, string(rec.Values), rec.Checksum, rec.UpdatedAt, tables.Null(rec.UpdatedBy), tables.Null(t.c.Reason), t.c.Action,
		t.st.Epoch, rec.IssuedAt, rec.Signature, rec.KeyID, tables.Bit(rec.Deleted), int64(t.index)) //nolint:gosec // fits
	if err != nil {
		return err
	}
	// Numbers that a rollout reserved may be left out.
	was := int64(0)
	if cur.Record != nil {
		was = int64(cur.Record.Version) //nolint:gosec // fits
	}
	for old := max(was-KeepVersions, 0) + 1; old <= version-KeepVersions; old++ {
		if err := t.drop(tables.Versions, tables.Versions.Drop, rec.Service, old); err != nil {
			return err
		}
	}
	if rec.Staged == nil { // else it is read again
		t.setRecord(rec.Service, &tables.StoredRecord{Record: rec, Digest: digest, Stored: true})
	}
	changed, err := t.history(rec, ch)
	if err != nil {
		return err
	}
	t.stale = append(t.stale, search.StaleItem{Service: rec.Service, Keys: changed, Change: search.Change{At: ch.at, By: ch.by}})
	return nil
}

// putConfig writes the row of rec, in place of that of cur.
func (t *editTx) putConfig(cur *tables.StoredRecord, rec *conf.Record) ([sha256.Size]byte, error) {
	if cur.Stored {
		t.st.Digest.Sub(cur.Digest)
	} else {
		t.st.ServiceCount++
	}
	return t.put(tables.Configs, tables.Configs.Upsert, []any{
		rec.Service, tables.ConfigJSON(rec.Service, rec.Config, rec.Version, rec.UpdatedAt, rec.Epoch), int64(rec.Version), rec.Epoch, rec.UpdatedAt, //nolint:gosec // fits
		tables.Null(rec.UpdatedBy), string(rec.Values), rec.Checksum, rec.IssuedAt, tables.Signatures(rec.Signature, rec.VersionSignature), rec.KeyID, tables.Bit(rec.Deleted), int64(rec.Index), //nolint:gosec // fits
	})
}

// itemsOf projects what differs between two versions of a service. The old values
// come from the old document: what is replicated must not depend on derived rows.
func (t *editTx) itemsOf(was, is *conf.Record, stored bool, ch *schemaChange) (before, after []conf.Item, err error) {
	var old, now json.RawMessage
	if stored && !was.Deleted {
		old = was.Config
	}
	if !is.Deleted {
		now = is.Config
	}
	oldSchema := is.Schema
	if ch != nil {
		oldSchema = ch.old
	} else if old != nil && now != nil {
		old, now, _ = t.conf.differ.differing(old, now)
	}
	if old != nil {
		if before, err = t.conf.Project(is.Service, oldSchema, old); err != nil {
			return nil, nil, reject(conf.CodeInvalid, "%s: the stored document does not fit its schema: %v", is.Service, err)
		}
	}
	if now != nil {
		if after, err = t.conf.Project(is.Service, is.Schema, now); err != nil {
			return nil, nil, reject(conf.CodeInvalid, "%s: the document does not fit its schema: %v", is.Service, err)
		}
	}
	return before, after, nil
}

// history adds a row for every key whose value differs, and lists those keys.
func (t *editTx) history(rec *conf.Record, ch change) ([]string, error) {
	was, is := valuesOf(ch.before), valuesOf(ch.after)
	keys := map[string]bool{}
	for k, v := range was {
		if now, ok := is[k]; !ok || now != v {
			keys[k] = true
		}
	}
	for k := range is {
		if _, ok := was[k]; !ok {
			keys[k] = true
		}
	}
	changed := conf.SortedKeys(keys)
	for _, k := range changed {
		var oldValue any
		if v, ok := was[k]; ok {
			oldValue = v
		}
		newValue, ok := is[k]
		if !ok {
			newValue = "null"
		}
		err := t.insert(tables.History, rec.Service, k, oldValue, newValue, ch.at, tables.Null(ch.by), tables.Null(t.c.Reason), int64(rec.Version), t.c.Action) //nolint:gosec // fits
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// reproject checks a document whose schema changed while it did not.
func (t *editTx) reproject(service string, ch *schemaChange) error {
	cur, err := t.record(service)
	if err != nil || !cur.Stored || cur.Record.Deleted {
		return err
	}
	if _, err := t.conf.Project(service, ch.new, cur.Record.Config); err != nil {
		return reject(conf.CodeInvalid, "%s: the stored document does not fit the new schema: %v", service, err)
	}
	t.stale = append(t.stale, search.StaleItem{Service: service})
	return nil
}

func (t *editTx) putProfiles() error {
	c := t.c
	for _, p := range c.Profiles {
		old, err := t.read(tables.Profiles, p.Name)
		if err != nil {
			return err
		}
		services, err := marshalServices(p.Services)
		if err != nil {
			return reject(conf.CodeInvalid, "profile %s: %v", p.Name, err)
		}
		if err := t.upsert(tables.Profiles, old, p.Name, p.Description, services, c.At, tables.Null(c.By)); err != nil {
			return err
		}
	}
	return each(c.ProfileDeletes, func(name string) error { return t.remove(tables.Profiles, name) })
}

// marshalServices preserves every byte of the values, unlike encoding/json.
func marshalServices(services map[string]json.RawMessage) (string, error) {
	out := []byte{'{'}
	for i, name := range conf.SortedKeys(services) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, tables.Quote(name)...), ':'), services[name]...)
	}
	out = append(out, '}')
	if !json.Valid(out) {
		return "", conf.Errorf(conf.CodeInvalid, "its values are not JSON")
	}
	return string(out), nil
}

// storeResult stores the result in case the same request comes again. A rejection
// is not stored: it changed nothing, so a repetition is safe.
func (t *tx) storeResult(id string, index uint64, versions map[string]uint64) error {
	data, err := tables.RequestJSON(versions)
	if err != nil {
		return err
	}
	if err := t.insert(tables.Requests, id, int64(index), data); err != nil { //nolint:gosec // fits
		return err
	}
	t.st.RequestCount++
	if t.st.RequestCount <= KeepRequests {
		return nil
	}
	t.st.RequestCount--
	return t.drop(tables.Requests, tables.DropOldestRequest)
}

// valuesOf are the values of items by key.
func valuesOf(items []conf.Item) map[string]string {
	m := make(map[string]string, len(items))
	for i := range items {
		m[items[i].Key] = items[i].ValueJSON
	}
	return m
}
