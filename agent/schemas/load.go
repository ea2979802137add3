package schemas

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
)

// Limits of the batches of new schemas. Each makes one entry of the log, and its schemas are
// compiled at the same time: the cache of compiled schemas has room for two batches, so
// that who applies the entry finds them there.
const (
	maxBatch = 768 << 10 // bytes of the schemas in one
	atOnce   = 2         // one is compiled while another one is applied
)

// Putter stores schemas; *edit.Editor is one.
type Putter interface {
	PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, requestID string) ([]conf.Outcome, error)
}

// Records returns what is stored of a service, nil for nothing.
type Records interface {
	Record(service string) *conf.Record
}

// Load stores what is new or changed in the directory. A file that is not named after a
// service, or a schema that does not accept the stored values, is logged and skipped; the
// stored one stays. alarms are those of the directory, from one call to the next. The error names those files. Its code is CodeSchemaMismatch when there
// are schemas that do not accept the stored values; mismatched are their services.
func Load(ctx context.Context, dir string, stored Records, to Putter, log *slog.Logger, alarms *alarm.Set) (mismatched []string, err error) {
	raw, bad, err := read(dir)
	var standing []string // subjects of alarms
	if err := cmp.Or(err, bad.err()); err != nil {
		alarms.Raise(alarm.SchemasUnread, dir, err)
		standing = append(standing, dir)
	}
	var batches []*batch
	var last *batch
	for _, name := range conf.SortedKeys(raw) {
		if rec := stored.Record(name); rec != nil && rec.Schema != nil {
			if c, err := dialect.Canonical(raw[name]); err == nil && string(c) == string(rec.Schema) {
				continue
			}
		}
		if last == nil || last.size > maxBatch {
			last = &batch{schemas: map[string][]byte{}}
			batches = append(batches, last)
		}
		last.schemas[name] = raw[name]
		last.size += len(raw[name])
	}
	putAll(ctx, batches, to, log, alarms)
	for _, b := range batches {
		standing = append(standing, conf.SortedKeys(b.refused)...)
		if ctx.Err() == nil {
			for name, err := range b.refused {
				bad[name+".json"] = err
			}
		}
	}
	for name, why := range bad {
		service := strings.TrimSuffix(name, ".json")
		if mismatch(why, stored.Record(service), raw[service]) {
			mismatched = append(mismatched, service)
		}
	}
	slices.Sort(mismatched)
	if cleared := alarms.Only("", standing...); dir != "" && len(standing) == 0 && !cleared {
		alarm.SchemasUnread.Over(log) // the process that raised it may be an earlier one
	}
	err = cmp.Or(err, bad.err())
	if len(mismatched) > 0 {
		err = mismatchError(mismatched, err)
	}
	return mismatched, err
}

// mismatch says whether a schema was refused because of the values of rec.
func mismatch(why error, rec *conf.Record, raw []byte) bool {
	if conf.CodeOf(why) != conf.CodeInvalid || rec == nil || rec.Version == 0 || raw == nil {
		return false
	}
	_, err := schema.Compile(rec.Service, raw)
	return err == nil
}

// mismatchError says what leads out of it. Its text has the hint too, because health has
// no other place for it.
func mismatchError(services []string, err error) error {
	s := services[0]
	hint := fmt.Sprintf("make the new schema accept the stored values and restart the agent; or change the values (holdfast set %s KEY=VALUE), "+
		"and it is loaded; or store both at once: holdfast schema put %s %s.json --with VALUES.json", s, s, s)
	return conf.Errorf(conf.CodeSchemaMismatch, "new schemas do not accept the stored values of %s: %w; way out: %s", strings.Join(services, ", "), err, hint).
		WithHint("%s", hint)
}

// batch are some schemas that are new or changed.
type batch struct {
	schemas map[string][]byte
	size    int
	refused files // by service
}

// putAll stores batches, some of them at the same time.
func putAll(ctx context.Context, batches []*batch, to Putter, log *slog.Logger, alarms *alarm.Set) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(atOnce, len(batches)) {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(len(batches)); i = next.Add(1) {
				batches[i-1].put(ctx, to, log, alarms)
			}
		})
	}
	workers.Wait()
}

func (b *batch) put(ctx context.Context, to Putter, log *slog.Logger, alarms *alarm.Set) {
	const reason = "loaded from the schema directory"
	who := conf.Principal{Name: "schema-dir", Role: conf.RoleWrite}
	if _, err := to.PutSchemas(ctx, who, b.schemas, reason, ""); err == nil {
		log.Info("schemas loaded", "services", len(b.schemas))
		return
	}
	b.refused = files{}
	for _, name := range conf.SortedKeys(b.schemas) { // one invalid file does not block the others
		if _, err := to.PutSchemas(ctx, who, map[string][]byte{name: b.schemas[name]}, reason, ""); err != nil {
			alarms.Raise(alarm.SchemaRefused, name, err, "service", name)
			b.refused[name] = err
		}
	}
}
