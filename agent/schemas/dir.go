package schemas

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// files collects why files of a schema directory are not loaded, by file name.
type files map[string]error

// maxNamed bounds how many files a text names.
const maxNamed = 10

// err names the files in one error, nil for none. Its text has the hint too, because
// health has no other place for it.
func (f files) err() error {
	if len(f) == 0 {
		return nil
	}
	var text []string
	for _, name := range conf.SortedKeys(f) {
		if len(text) == maxNamed {
			text = append(text, fmt.Sprintf("and %d more", len(f)-maxNamed))
			break
		}
		err := f[name]
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // health must not show paths of this host
		}
		text = append(text, fmt.Sprintf("%s: %v", name, err))
	}
	const hint = "correct them, and restart the agent"
	return conf.Errorf(conf.CodeUsage, "files of the schema directory are not loaded: %s; %s", strings.Join(text, "; "), hint).WithHint(hint)
}

// Read returns the <service>.json files of a directory by service; "" has none. The error
// names those that cannot be read or are not named after a service; the others are
// returned all the same.
func Read(dir string) (map[string][]byte, error) {
	out, bad, err := read(dir)
	return out, cmp.Or(err, bad.err())
}

// read is Read with the error of the directory apart from those of files.
func read(dir string) (map[string][]byte, files, error) {
	out, bad := map[string][]byte{}, files{}
	services, err := list(dir, bad)
	if err != nil {
		return nil, files{}, err
	}
	for _, name := range services {
		if data := readFile(dir, name, bad); data != nil {
			out[name] = data
		}
	}
	return out, bad, nil
}

// list returns the services that have a file in a directory, sorted, and adds the files
// that are not named after one to bad.
func list(dir string, bad files) (services []string, err error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "reading the schema directory: %w", err).WithHint("set CONFIG_SCHEMA_DIR to a directory of <service>.json files")
	}
	for _, f := range entries {
		name, isJSON := strings.CutSuffix(f.Name(), ".json")
		if f.IsDir() || !isJSON || strings.HasPrefix(name, ".") {
			continue
		}
		if err := conf.CheckService(name); err != nil {
			bad[f.Name()] = conf.Errorf(conf.CodeUsage, "the name is not that of a service: %w", err)
			continue
		}
		services = append(services, name)
	}
	slices.Sort(services)
	return services, nil
}

// readFile returns the file of a service, nil when there is none any more, or when it cannot
// be read and is added to bad.
func readFile(dir, service string, bad files) []byte {
	data, err := os.ReadFile(filepath.Join(dir, service+".json"))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // removed since the listing
			bad[service+".json"] = err
		}
		return nil
	}
	return data
}

// ReadCanonical is Read with each schema in its canonical form. What has none is one of
// the files that the error names.
func ReadCanonical(dir string) (map[string][]byte, error) {
	raw, bad, err := read(dir)
	for name, data := range raw {
		c, cerr := dialect.Canonical(data)
		if cerr != nil {
			delete(raw, name)
			bad[name+".json"] = cerr
			continue
		}
		raw[name] = c
	}
	return raw, cmp.Or(err, bad.err())
}

// Defaults returns the records that the schemas of a directory make without any
// stored value: the last thing to serve when neither the replica nor the
// last-known-good file can be read. A schema without valid defaults is logged. It returns
// nil when the directory has no schema.
func Defaults(cache *schema.Cache, dir string, log *slog.Logger) []*conf.Record {
	raw, err := Read(dir)
	if err != nil {
		log.Warn("schemas without defaults", "err", err, "hint", conf.HintOf(err))
	}
	if len(raw) == 0 {
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
	c, err := dialect.Canonical(raw)
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
