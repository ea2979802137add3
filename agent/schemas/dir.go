package schemas

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Read returns the <service>.json files of a directory by service; "" has none. One
// unreadable file is an error for all: a service without its schema would seem unknown.
func Read(dir string) (map[string][]byte, error) {
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

// ReadCanonical is Read with each schema in its canonical form.
func ReadCanonical(dir string) (map[string][]byte, error) {
	raw, err := Read(dir)
	for name, data := range raw {
		c, cerr := seal.CanonicalJSON(data)
		if cerr != nil {
			return nil, conf.Errorf(conf.CodeUsage, "schema of %s: %w", name, cerr)
		}
		raw[name] = c
	}
	return raw, err
}

// Defaults returns the records that the schemas of a directory make without any
// stored value: the last thing to serve when neither the replica nor the
// last-known-good file can be read. A schema without valid defaults is logged. It returns
// nil when the directory has no schema.
func Defaults(cache *schema.Cache, dir string, log *slog.Logger) []*conf.Record {
	raw, err := Read(dir)
	if err != nil || len(raw) == 0 {
		return nil
	}
	recs := make([]*conf.Record, 0, len(raw))
	for _, name := range conf.SortedKeys(raw) {
		r, err := DefaultRecord(cache, name, raw[name])
		if err != nil {
			log.Warn("no defaults for a service", "service", name, "err", err)
			continue
		}
		recs = append(recs, r)
	}
	return recs
}

// DefaultRecord is the record of a service of which only the schema is known.
func DefaultRecord(cache *schema.Cache, service string, raw []byte) (*conf.Record, error) {
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
