package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// What is kept of the past, per service and in all. Both count rows, not time,
// so that every node forgets the same ones.
const (
	keepVersions = 1000
	keepRequests = 10000
)

// storedResult is the form of requests.result_json.
type storedResult struct {
	Versions map[string]uint64 `json:"versions,omitempty"`
}

// edit applies all of c or, with a refusal, nothing.
func (t *tx) edit(index uint64, c *command.Edit) (command.Result, []string, error) {
	if c.ID != "" {
		old, err := readRow(t.ctx, t.w, t.dig, tableRequests, c.ID)
		if err != nil {
			return command.Result{}, nil, err
		}
		if old != nil {
			var was storedResult
			if err := json.Unmarshal([]byte(old.text(2)), &was); err != nil {
				return command.Result{}, nil, corrupt("the result of request %q: %w", c.ID, err)
			}
			return command.Result{Index: uintOf(old.vals[1]), Versions: was.Versions, Duplicate: true}, nil, nil
		}
	}
	if t.st.epoch == "" || c.Epoch != t.st.epoch {
		return command.Result{}, nil, refusal{conf.Errorf(conf.CodeConflict, "the change was made for the epoch %q, the store has %q", c.Epoch, t.st.epoch).
			WithHint("read the configuration again and repeat the change")}
	}
	res := command.Result{Index: index}
	changes, err := t.putSchemas(c)
	if err != nil {
		return res, nil, err
	}
	for i := range c.Updates {
		u := &c.Updates[i]
		if _, twice := res.Versions[u.Service]; twice {
			return res, nil, refuse(conf.CodeInvalid, "%s is changed twice in one edit", u.Service)
		}
		if err := t.update(index, c, u, changes[u.Service]); err != nil {
			return res, nil, err
		}
		if res.Versions == nil {
			res.Versions = map[string]uint64{}
		}
		res.Versions[u.Service] = u.Version
	}
	if err := t.putSecrets(c, res.Versions); err != nil {
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
	if err := t.putProfiles(c); err != nil {
		return res, nil, err
	}
	if err := t.audit(c.Audit); err != nil {
		return res, nil, err
	}
	if c.ID != "" {
		if err := t.remember(c.ID, index, storedResult{res.Versions}); err != nil {
			return res, nil, err
		}
	}
	return res, touched, nil
}

// schemaChange is what an edit does to the schema of a service; nil for none.
type schemaChange struct{ old, new json.RawMessage }

// putSchemas stores the schemas that differ from those that are there.
func (t *tx) putSchemas(c *command.Edit) (map[string]*schemaChange, error) {
	var changes map[string]*schemaChange
	for _, sc := range c.Schemas {
		sha := sha256.Sum256(sc.Schema)
		hash := hex.EncodeToString(sha[:])
		old, err := readRow(t.ctx, t.w, t.dig, tableSchemas, sc.Service)
		if err != nil {
			return nil, err
		}
		if old != nil && old.text(2) == hash {
			continue
		}
		if changes[sc.Service] != nil {
			return nil, refuse(conf.CodeInvalid, "the schema of %s is changed twice in one edit", sc.Service)
		}
		ch := &schemaChange{new: sc.Schema}
		if old != nil {
			ch.old = json.RawMessage(old.text(1))
		}
		if changes == nil {
			changes = map[string]*schemaChange{}
		}
		changes[sc.Service] = ch
		if err := t.upsert(tableSchemas, old, sc.Service, string(sc.Schema), hash, c.At, null(c.By)); err != nil {
			return nil, err
		}
	}
	if changes != nil {
		// Counted by the edit and not by the batch: nodes batch differently.
		t.st.version++
		t.st.versionAt = c.At
		t.schemas = true
	}
	return changes, nil
}

// update stores the new version of one service. It refuses before it changes
// anything.
func (t *tx) update(index uint64, c *command.Edit, u *command.Update, ch *schemaChange) error {
	h, err := t.head(u.Service)
	if err != nil {
		return err
	}
	var current uint64
	var was conf.Record
	if h.rec != nil {
		was, current = *h.rec, h.rec.Version
	}
	if u.Prev != current {
		return refusal{&conf.Error{
			Code: conf.CodeConflict, Current: current,
			Message: u.Service + " was changed by somebody else",
			Hint:    "read it again and repeat the change on the version that it has now",
		}}
	}
	if u.Version != u.Prev+1 {
		return refuse(conf.CodeInvalid, "%s: version %d does not follow %d", u.Service, u.Version, u.Prev)
	}
	config, values := u.Config, u.Values
	if u.Deleted {
		config, values = json.RawMessage("{}"), json.RawMessage("{}")
	}
	if config == nil || values == nil {
		return refuse(conf.CodeInvalid, "%s: version %d has no document", u.Service, u.Version)
	}
	at, by := cmp.Or(u.UpdatedAt, c.At), cmp.Or(u.UpdatedBy, c.By)
	rec := &conf.Record{
		Service: u.Service, Version: u.Version, Epoch: t.st.epoch, Values: values, Config: config,
		Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: u.KeyID,
		UpdatedAt: at, UpdatedBy: by, Deleted: u.Deleted, Index: index, Schema: was.Schema, Secrets: was.Secrets,
	}
	before, after, err := t.itemsOf(&was, rec, h.stored, ch)
	if err != nil {
		return err
	}

	digest, err := t.putConfig(h, rec)
	if err != nil {
		return err
	}
	version, deleted := int64(u.Version), bit(u.Deleted) //nolint:gosec // fits
	err = t.insert(tableVersions, u.Service, version, string(values), u.Checksum, at, null(by), null(c.Reason), c.Action,
		t.st.epoch, u.IssuedAt, u.Signature, u.KeyID, deleted, int64(index)) //nolint:gosec // fits
	if err != nil {
		return err
	}
	if version > keepVersions {
		if err := t.remove(tableVersions, u.Service, version-keepVersions); err != nil {
			return err
		}
	}
	t.setHead(u.Service, &head{rec: rec, digest: digest, stored: true})
	changed, err := t.history(c, u, at, by, before, after)
	if err != nil {
		return err
	}
	t.marks = append(t.marks, mark{u.Service, changed, change{at, by}})
	if u.Deleted {
		return t.dropSecrets(c, u)
	}
	return nil
}

// putConfig writes the row of rec, in place of the one that h has.
func (t *tx) putConfig(h *head, rec *conf.Record) ([sha256.Size]byte, error) {
	vals := []any{
		rec.Service, configJSON(rec.Service, rec.Config, rec.Version, rec.UpdatedAt, rec.Epoch), int64(rec.Version), rec.Epoch, rec.UpdatedAt, //nolint:gosec // fits
		null(rec.UpdatedBy), string(rec.Values), rec.Checksum, rec.IssuedAt, rec.Signature, rec.KeyID, bit(rec.Deleted), int64(rec.Index), //nolint:gosec // fits
	}
	d, err := t.dig.row(tableConfigs.name, vals)
	if err != nil {
		return d, err
	}
	if h.stored {
		t.st.digest.sub(h.digest)
	} else {
		t.st.services++
	}
	t.st.digest.add(d)
	t.changes(tableConfigs, vals)
	return d, t.w.exec(t.ctx, tableConfigs.upsert, append(vals, d[:])...)
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// itemsOf projects what differs between two versions of a service. The old values
// come from the old document: what is replicated must not depend on derived rows.
func (t *tx) itemsOf(was, is *conf.Record, stored bool, ch *schemaChange) (before, after []conf.Item, err error) {
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
		old, now, _ = differing(old, now)
	}
	if old != nil {
		if before, err = t.s.project(is.Service, oldSchema, old); err != nil {
			return nil, nil, refuse(conf.CodeInvalid, "%s: the stored document does not fit its schema: %v", is.Service, err)
		}
	}
	if now != nil {
		if after, err = t.s.project(is.Service, is.Schema, now); err != nil {
			return nil, nil, refuse(conf.CodeInvalid, "%s: the document does not fit its schema: %v", is.Service, err)
		}
	}
	return before, after, nil
}

// history adds a row for every key whose value differs, and lists those keys.
func (t *tx) history(c *command.Edit, u *command.Update, at, by string, before, after []conf.Item) ([]string, error) {
	was, is := byKey(before), byKey(after)
	keys := map[string]bool{}
	for k, b := range was {
		if a, ok := is[k]; !ok || a.ValueJSON != b.ValueJSON {
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
		if b, ok := was[k]; ok {
			oldValue = b.ValueJSON
		}
		newValue := "null"
		if a, ok := is[k]; ok {
			newValue = a.ValueJSON
		}
		err := t.insert(tableHistory, u.Service, k, oldValue, newValue, at, null(by), null(c.Reason), int64(u.Version), c.Action) //nolint:gosec // fits
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// reproject follows a schema that changed while the document did not.
func (t *tx) reproject(service string, ch *schemaChange) error {
	h, err := t.head(service)
	if err != nil || !h.stored || h.rec.Deleted {
		return err
	}
	if _, err := t.s.project(service, ch.new, h.rec.Config); err != nil {
		return refuse(conf.CodeInvalid, "%s: the stored document does not fit the new schema: %v", service, err)
	}
	t.marks = append(t.marks, mark{service: service})
	return nil
}

func (t *tx) putProfiles(c *command.Edit) error {
	for _, p := range c.Profiles {
		old, err := readRow(t.ctx, t.w, t.dig, tableProfiles, p.Name)
		if err != nil {
			return err
		}
		services, err := marshalServices(p.Services)
		if err != nil {
			return refuse(conf.CodeInvalid, "profile %s: %v", p.Name, err)
		}
		if err := t.upsert(tableProfiles, old, p.Name, p.Description, services, c.At, null(c.By)); err != nil {
			return err
		}
	}
	for _, name := range c.ProfileDeletes {
		if err := t.remove(tableProfiles, name); err != nil {
			return err
		}
	}
	return nil
}

// marshalServices keeps every byte of the values, which encoding/json would not.
func marshalServices(services map[string]json.RawMessage) (string, error) {
	out := []byte{'{'}
	for i, name := range conf.SortedKeys(services) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, quote(name)...), ':'), services[name]...)
	}
	out = append(out, '}')
	if !json.Valid(out) {
		return "", conf.Errorf(conf.CodeInvalid, "its values are not JSON")
	}
	return string(out), nil
}

// remember keeps the result for the case that the same request comes again.
// Refusals are not kept: they changed nothing, so a repetition is safe.
func (t *tx) remember(id string, index uint64, res storedResult) error {
	data, err := json.Marshal(res)
	if err != nil {
		return err
	}
	if err := t.insert(tableRequests, id, int64(index), string(data)); err != nil { //nolint:gosec // fits
		return err
	}
	t.st.requests++
	if t.st.requests <= keepRequests {
		return nil
	}
	var oldest string
	if err := t.w.QueryRowContext(t.ctx, "SELECT id FROM requests ORDER BY idx LIMIT 1").Scan(&oldest); err != nil {
		return err
	}
	t.st.requests--
	return t.remove(tableRequests, oldest)
}

func byKey(items []conf.Item) map[string]*conf.Item {
	m := make(map[string]*conf.Item, len(items))
	for i := range items {
		m[items[i].Key] = &items[i]
	}
	return m
}

// project is Options.Project, without secrets, in the order of the keys.
func (s *Store) project(service string, schema, config json.RawMessage) ([]conf.Item, error) {
	items, err := s.opts.Project(service, schema, config)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	items = slices.DeleteFunc(items, func(i conf.Item) bool { return i.IsSecret })
	slices.SortFunc(items, func(a, b conf.Item) int { return cmp.Compare(a.Key, b.Key) })
	for i := 1; i < len(items); i++ {
		if items[i].Key == items[i-1].Key {
			return nil, conf.Errorf(conf.CodeInvalid, "the key %s appears twice", items[i].Key)
		}
	}
	return items, nil
}
