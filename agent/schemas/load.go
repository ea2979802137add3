package schemas

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
)

// Limits of the batches of new schemas. Each makes one entry of the log, and its schemas are
// compiled at the same time: the cache of compiled schemas has room for two batches, so
// that who applies the entry finds them there.
const (
	maxBatch = 512 << 10 // bytes of the schemas in one,
	minBatch = 64 << 10  // and in a process with little memory
	ofMemory = 640       // a part of Go's memory limit
	atOnce   = 2         // one is compiled while another one is applied
)

func batchSize() int { return int(min(max(debug.SetMemoryLimit(-1)/ofMemory, minBatch), maxBatch)) }

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
// stored one stays. alarms are those of the directory, from one call to the next. The error
// names those files. Its code is CodeSchemaMismatch when there are schemas that do not
// accept the stored values; mismatched are their services.
func Load(ctx context.Context, dir string, stored Records, to Putter, log *slog.Logger, alarms *alarm.Set) (mismatched []string, err error) {
	bad := files{}
	services, err := list(dir, bad)
	refused := put(ctx, to, log, alarms, func(yield func(service string, raw []byte) bool) {
		for _, service := range services {
			raw := readFile(dir, service, bad)
			if raw == nil || isStored(stored.Record(service), raw) {
				continue
			}
			if !yield(service, raw) {
				return
			}
		}
	})
	var standing []string // subjects of alarms
	if err := cmp.Or(err, bad.err()); err != nil {
		alarms.Raise(alarm.SchemasUnread, dir, err)
		standing = append(standing, dir)
	}
	for _, r := range refused {
		standing = append(standing, r.service)
		if ctx.Err() != nil {
			continue
		}
		bad[r.service+".json"] = r.err
		if mismatch(r.err, stored.Record(r.service), r.raw) {
			mismatched = append(mismatched, r.service)
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
	if conf.CodeOf(why) != conf.CodeInvalid || rec == nil || rec.Version == 0 {
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

// isStored reports whether a record has the schema of a file.
func isStored(rec *conf.Record, raw []byte) bool {
	if rec == nil || rec.Schema == nil {
		return false
	}
	if string(raw) == string(rec.Schema) {
		return true
	}
	c, err := dialect.Canonical(raw)
	return err == nil && string(c) == string(rec.Schema)
}

// refusal is a schema that was not stored.
type refusal struct {
	service string
	raw     []byte
	err     error
}

// put stores schemas in batches, some of them at the same time. It has no more than those
// in memory: a directory may be large.
func put(ctx context.Context, to Putter, log *slog.Logger, alarms *alarm.Set, schemas iter.Seq2[string, []byte]) (refused []refusal) {
	batches := make(chan map[string][]byte)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for batch := range batches {
				r := putBatch(ctx, batch, to, log, alarms)
				mu.Lock()
				refused = append(refused, r...)
				mu.Unlock()
			}
		})
	}
	most := batchSize()
	batch, size := map[string][]byte{}, 0
	for service, raw := range schemas {
		batch[service] = raw
		if size += len(raw); size > most {
			batches <- batch
			batch, size = map[string][]byte{}, 0
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	close(batches)
	workers.Wait()
	return refused
}

func putBatch(ctx context.Context, batch map[string][]byte, to Putter, log *slog.Logger, alarms *alarm.Set) (refused []refusal) {
	const reason = "loaded from the schema directory"
	who := conf.Principal{Name: "schema-dir", Role: conf.RoleWrite}
	if _, err := to.PutSchemas(ctx, who, batch, reason, ""); err == nil {
		log.Info("schemas loaded", "services", len(batch))
		return nil
	}
	for _, name := range conf.SortedKeys(batch) { // one invalid file does not block the others
		if _, err := to.PutSchemas(ctx, who, map[string][]byte{name: batch[name]}, reason, ""); err != nil {
			alarms.Raise(alarm.SchemaRefused, name, err, "service", name)
			refused = append(refused, refusal{name, batch[name], err})
		}
	}
	return refused
}
