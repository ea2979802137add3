package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"iter"
	"log/slog"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
)

// StoreOptions returns the options with which the database at path is opened: the
// store gets the items that it searches from the schemas of cache.
func StoreOptions(path string, cache *schema.Cache, log *slog.Logger) store.Options {
	return store.Options{
		Path: path, Logger: log, ModelHash: modelHash,
		Project: func(service string, rawSchema, config json.RawMessage) ([]conf.Item, error) {
			// Items are derived data: a stored schema that this build cannot compile
			// must not stop the log.
			items, err := cache.Items(service, rawSchema, config)
			if err == nil {
				return items, nil
			}
			log.Warn("a stored schema does not compile: its keys are found without their descriptions", "service", service, "err", err)
			doc, perr := conf.ParseObject(config, conf.MaxDocument)
			if perr != nil {
				return nil, perr
			}
			return schema.Infer(service, doc), nil
		},
	}
}

// modelHash returns the hex SHA-256 of the RFC 8785 form of {service: schema, ...}. The
// schemas must be in RFC 8785 form, and in the order of the bytes of the services' names.
func modelHash(schemas iter.Seq2[string, []byte]) string {
	h := sha256.New()
	h.Write([]byte("{"))
	first := true
	for service, schema := range schemas {
		if !first {
			h.Write([]byte(","))
		}
		first = false
		h.Write([]byte(`"` + service + `":`)) // a service's name has nothing to escape
		h.Write(schema)
	}
	h.Write([]byte("}"))
	return hex.EncodeToString(h.Sum(nil))
}
