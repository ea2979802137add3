package schemas

import (
	"context"
	"log/slog"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// maxBatch bounds the log entry that one batch of new schemas makes, in bytes.
const maxBatch = 8 << 20

// Putter stores schemas; *edit.Editor is one.
type Putter interface {
	PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, requestID string) ([]conf.Outcome, error)
}

// Records returns what is stored of a service, nil for nothing.
type Records interface {
	Record(service string) *conf.Record
}

// Load stores what is new or changed in the directory. A schema that does
// not accept the stored values is logged and skipped; the stored one stays.
func Load(ctx context.Context, dir string, stored Records, to Putter, log *slog.Logger) {
	raw, err := Read(dir)
	if err != nil {
		log.Error("schemas were not loaded", "err", err, "hint", conf.HintOf(err))
		return
	}
	changed := map[string][]byte{}
	size := 0
	flush := func() {
		put(ctx, changed, to, log)
		changed, size = map[string][]byte{}, 0
	}
	for _, name := range conf.SortedKeys(raw) {
		if rec := stored.Record(name); rec != nil && rec.Schema != nil {
			if c, err := seal.CanonicalJSON(raw[name]); err == nil && string(c) == string(rec.Schema) {
				continue
			}
		}
		changed[name] = raw[name]
		if size += 2 * len(raw[name]); size > maxBatch {
			flush()
		}
	}
	flush()
}

func put(ctx context.Context, batch map[string][]byte, to Putter, log *slog.Logger) {
	if len(batch) == 0 {
		return
	}
	const reason = "loaded from the schema directory"
	who := conf.Principal{Name: "schema-dir", Role: conf.RoleWrite}
	if _, err := to.PutSchemas(ctx, who, batch, reason, ""); err == nil {
		log.Info("schemas loaded", "services", len(batch))
		return
	}
	for _, name := range conf.SortedKeys(batch) { // one invalid file does not block the others
		if _, err := to.PutSchemas(ctx, who, map[string][]byte{name: batch[name]}, reason, ""); err != nil {
			log.Error("a schema was not loaded", "service", name, "err", err, "hint", conf.HintOf(err))
		}
	}
}
