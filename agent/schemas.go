package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// schemaBatch bounds the log entry that one batch of new schemas makes.
const schemaBatch = 8 << 20

// readSchemas reads <service>.json of a directory. A file that cannot be read
// fails the whole: a service without its schema would look unknown.
func readSchemas(dir string) (map[string][]byte, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "reading the schema directory: %w", err).WithHint("set CONFIG_SCHEMA_DIR to a directory of <service>.json files")
	}
	out := map[string][]byte{}
	for _, f := range files {
		name, isJSON := strings.CutSuffix(f.Name(), ".json")
		if f.IsDir() || !isJSON || strings.HasPrefix(name, ".") {
			continue
		}
		if err := conf.CheckService(name); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the listing
		}
		if err != nil {
			return nil, err
		}
		out[name] = data
	}
	return out, nil
}

// loadSchemas puts what is new or changed in the schema directory into the
// store. A schema that stored values break is reported and left out; the one
// that is stored stays in force.
func (s *supervisor) loadSchemas(ctx context.Context) {
	raw, err := readSchemas(s.o.SchemaDir)
	if err != nil {
		s.log.Error("schemas were not loaded", "err", err, "hint", conf.HintOf(err))
		return
	}
	changed := map[string][]byte{}
	size := 0
	flush := func() {
		s.putSchemas(ctx, changed)
		changed, size = map[string][]byte{}, 0
	}
	for _, name := range conf.SortedKeys(raw) {
		if rec := (records{s.view}).Record(name); rec != nil && rec.Schema != nil {
			if c, err := seal.CanonicalJSON(raw[name]); err == nil && string(c) == string(rec.Schema) {
				continue
			}
		}
		changed[name] = raw[name]
		if size += 2 * len(raw[name]); size > schemaBatch {
			flush()
		}
	}
	flush()
}

func (s *supervisor) putSchemas(ctx context.Context, batch map[string][]byte) {
	if len(batch) == 0 {
		return
	}
	who := conf.Principal{Name: "schema-dir", Role: conf.RoleWrite}
	if _, err := s.system.PutSchemas(ctx, who, batch, "loaded from the schema directory", ""); err == nil {
		s.log.Info("schemas loaded", "services", len(batch))
		return
	}
	for _, name := range conf.SortedKeys(batch) { // one bad file must not keep the others out
		if _, err := s.system.PutSchemas(ctx, who, map[string][]byte{name: batch[name]}, "loaded from the schema directory", ""); err != nil {
			s.log.Error("a schema was not loaded", "service", name, "err", err, "hint", conf.HintOf(err))
		}
	}
}

// project is store.Options.Project. Items are derived data for the search: a
// stored schema that this build cannot compile must not stop the log.
func (s *supervisor) project(service string, rawSchema, config json.RawMessage) ([]conf.Item, error) {
	items, err := s.schemas.Items(service, rawSchema, config)
	if err == nil {
		return items, nil
	}
	s.log.Warn("a stored schema does not compile: its keys are found without their descriptions", "service", service, "err", err)
	doc, perr := conf.ParseObject(config, conf.MaxDocument)
	if perr != nil {
		return nil, perr
	}
	return schema.Infer(service, doc), nil
}

// modelHash is store.Options.ModelHash.
func modelHash(schemas map[string][]byte) string { return schema.ModelHash(schemas) }

func hashOf(canonical []byte) string { return seal.Checksum(canonical) }

func defaultRecord(cache *schema.Cache, service string, raw []byte) (*conf.Record, error) {
	c, err := seal.CanonicalJSON(raw)
	if err != nil {
		return nil, err
	}
	s, err := cache.Get(service, c)
	if err != nil {
		return nil, err
	}
	doc, bad := s.Effective(map[string]any{})
	if len(bad) > 0 {
		return nil, conf.Errorf(conf.CodeInvalid, "%s %s", bad[0].Key, bad[0].Message)
	}
	config, err := seal.Canonical(doc)
	if err != nil {
		return nil, err
	}
	return &conf.Record{
		Service: service, Values: json.RawMessage("{}"), Config: config, Checksum: seal.Checksum(config), Schema: c,
	}, nil
}

var _ edit.Records = records{}
