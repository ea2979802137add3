package agent

import (
	"context"
	"encoding/json"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// records reads the view for agent/edit.
type records struct{ v *liveView }

func (r records) Record(service string) *conf.Record {
	if e, ok := r.v.Get(service); ok {
		return e.Record
	}
	return nil
}

func (r records) Services() []*conf.Record {
	var out []*conf.Record
	r.v.Load().Range(func(e *entry) bool {
		out = append(out, e.Record)
		return true
	})
	return out
}

func (r records) Epoch() string { return r.v.Load().Epoch }

// backend gives the admin API what it reads and changes. What is current comes
// from the view, in every mode; the rest needs the store of a running session.
type backend struct {
	records
	s       *supervisor
	schemas *schema.Cache
	editor  *edit.Editor
}

// ServiceList and the other readers of the admin API.
func (b *backend) services() []conf.ServiceInfo {
	out := []conf.ServiceInfo{}
	for _, r := range b.records.Services() {
		if r.Deleted {
			continue
		}
		out = append(out, conf.ServiceInfo{
			Service: r.Service, Version: r.Version, UpdatedAt: r.UpdatedAt, UpdatedBy: r.UpdatedBy,
			Epoch: r.Epoch, Checksum: r.Checksum, HasSchema: r.Schema != nil,
		})
	}
	return out
}

// reader is admin.Reader.
type reader struct{ *backend }

func (r reader) Services(context.Context) ([]conf.ServiceInfo, error) {
	if r.v.Load().Source == "" {
		return nil, r.s.down()
	}
	return r.services(), nil
}

func (r reader) Record(_ context.Context, service string) (*conf.Record, error) {
	if rec := r.records.Record(service); rec != nil {
		return rec, nil
	}
	if r.v.Load().Source == "" {
		return nil, r.s.down()
	}
	return nil, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("GET /api/config/services lists them")
}

// Health is admin.HealthReporter.
func (s *supervisor) Health() conf.Health {
	db, mode, event, err, lkgErr := s.st.get()
	file := s.lkg.Status()
	if file.Valid {
		lkgErr = nil
	} else if file.Err != nil {
		lkgErr = file.Err
	}
	h := conf.Health{
		DatabaseStatus: db, OperationalMode: mode, ConfigEpoch: s.view.Load().Epoch,
		LKGCacheValid: file.Valid, Event: &event,
	}
	b := s.knownBackup()
	h.LitestreamStatus, h.LastBackup = b.LitestreamStatus(), b.LastBackup
	if ss := s.cur.Load(); ss != nil {
		h.SchemaVersion, _ = ss.store.SchemaVersion()
		s.lastSchema.Store(int64(h.SchemaVersion))
	} else {
		h.SchemaVersion = int(s.lastSchema.Load())
	}
	h.OK = db == conf.DatabaseHealthy && mode == conf.ModeNormal && h.LKGCacheValid
	var full error
	if p := s.full.Load(); p != nil {
		full, h.OK = *p, false
	}
	lost := s.lostError()
	h.OK = h.OK && lost == nil
	for _, e := range []error{err, lkgErr, full, lost, s.sharedBackup()} {
		if e != nil && h.Err == nil {
			text := e.Error()
			if c := publicCause(e); c != nil {
				text = c.Error()
			}
			h.Err = &text
		}
	}
	return h
}

// RequestResult and the next two are edit.Archive over the running session.
func (s *supervisor) RequestResult(ctx context.Context, id string) (command.Result, bool, error) {
	ss := s.cur.Load()
	if ss == nil {
		return command.Result{}, false, s.down()
	}
	return ss.store.RequestResult(ctx, id)
}

// VersionValues is what was stored at a version.
func (s *supervisor) VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error) {
	return ask(s, func(ss *session) (json.RawMessage, error) { return ss.store.VersionValues(ctx, service, version) })
}

// Profile is one profile.
func (s *supervisor) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return ask(s, func(ss *session) (conf.Profile, error) { return ss.store.Profile(ctx, name) })
}

// Profiles are all profiles.
func (s *supervisor) Profiles(ctx context.Context) ([]conf.Profile, error) {
	return ask(s, func(ss *session) ([]conf.Profile, error) { return ss.store.Profiles(ctx) })
}

// Versions lists the kept versions of a service, newest first.
func (s *supervisor) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	return ask(s, func(ss *session) ([]conf.Metadata, error) { return ss.store.Versions(ctx, service, limit) })
}

// Search finds configuration items.
func (s *supervisor) Search(ctx context.Context, q conf.SearchRequest) (conf.SearchResponse, error) {
	return ask(s, func(ss *session) (conf.SearchResponse, error) { return ss.store.Search(ctx, q) })
}

// History pages through the changes.
func (s *supervisor) History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error) {
	return ask(s, func(ss *session) (conf.HistoryPage, error) { return ss.store.History(ctx, f) })
}

// AccessLog pages through the access log.
func (s *supervisor) AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error) {
	return ask(s, func(ss *session) (conf.AccessPage, error) { return ss.store.AccessLog(ctx, f) })
}

func ask[T any](s *supervisor, q func(*session) (T, error)) (T, error) {
	ss := s.cur.Load()
	if ss == nil {
		var none T
		return none, s.down()
	}
	return q(ss)
}

// schemaReader is admin.SchemaReader over the view, so that it answers in every mode.
type schemaReader struct{ *backend }

func (b schemaReader) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	if ss := b.s.cur.Load(); ss != nil {
		return ss.store.Schemas(ctx)
	}
	out := []conf.SchemaInfo{}
	for _, r := range b.records.Services() {
		if r.Schema != nil {
			out = append(out, conf.SchemaInfo{Service: r.Service, Hash: hashOf(r.Schema)})
		}
	}
	return out, nil
}

func (b schemaReader) Schema(ctx context.Context, service string) (conf.SchemaInfo, error) {
	r := b.records.Record(service)
	if r == nil || r.Schema == nil {
		return conf.SchemaInfo{}, conf.Errorf(conf.CodeNotFound, "service %q has no schema", service).
			WithHint("put one: holdfast schema put %s FILE", service)
	}
	s, err := b.schemas.Get(service, r.Schema)
	if err != nil {
		return conf.SchemaInfo{}, err
	}
	info := conf.SchemaInfo{Service: service, Hash: hashOf(r.Schema), Schema: r.Schema, Fields: s.Fields()}
	all, err := b.Schemas(ctx)
	if err != nil {
		return info, nil //nolint:nilerr // who and when are a courtesy; the schema itself is at hand
	}
	for _, i := range all {
		if i.Service == service {
			info.UpdatedAt, info.UpdatedBy = i.UpdatedAt, i.UpdatedBy
		}
	}
	return info, nil
}

// writer is admin.SchemaEditor and admin.ProfileEditor.
type writer struct{ *backend }

func (w writer) PutSchema(ctx context.Context, who conf.Principal, service string, raw []byte, reason, requestID string) (conf.SchemaInfo, conf.Outcome, error) {
	outs, err := w.editor.PutSchemas(ctx, who, map[string][]byte{service: raw}, reason, requestID)
	if err != nil {
		return conf.SchemaInfo{}, conf.Outcome{}, err
	}
	info, err := schemaReader(w).Schema(ctx, service)
	return info, outs[0], err
}

func (w writer) SaveProfile(ctx context.Context, who conf.Principal, p conf.Profile, of []string, reason, requestID string) (conf.Profile, error) {
	return w.editor.SaveProfile(ctx, who, p.Name, p.Description, p.Services, of, reason, requestID)
}

func (w writer) ActivateProfile(ctx context.Context, who conf.Principal, name, reason, requestID string) ([]conf.Outcome, error) {
	return w.editor.ActivateProfile(ctx, who, name, reason, requestID)
}

func (w writer) DeleteProfile(ctx context.Context, who conf.Principal, name, reason, requestID string) error {
	return w.editor.DeleteProfile(ctx, who, name, reason, requestID)
}
