package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// configJSON is the complete conf.ServiceConfig as it stands in config_json. It
// is put together by hand so that every byte of config stays.
func configJSON(service string, config json.RawMessage, version uint64, at, epoch string) string {
	head, tail := configFrame(service, version, at, epoch)
	return head + string(config) + tail
}

func configFrame(service string, version uint64, at, epoch string) (head, tail string) {
	return `{"service":` + quote(service) + `,"config":`,
		`,"version":` + strconv.FormatUint(version, 10) + `,"updated_at":` + quote(at) + `,"config_epoch":` + quote(epoch) + `}`
}

// configOf takes the document out of the config_json of a row of service_configs.
func configOf(r *row) (json.RawMessage, error) {
	text := r.text(1)
	head, tail := configFrame(r.text(0), uintOf(r.vals[2]), r.text(4), r.text(3))
	if len(text) < len(head)+len(tail) || !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) {
		return nil, corrupt("config_json of %s is not the one of its row", r.text(0))
	}
	return json.RawMessage(text[len(head) : len(text)-len(tail)]), nil
}

func quote(s string) string {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string never fails
	return string(b)
}

// recordOf makes the record of a row of service_configs.
func recordOf(r *row) (*conf.Record, error) {
	config, err := configOf(r)
	if err != nil {
		return nil, err
	}
	return &conf.Record{
		Service: r.text(0), Version: uintOf(r.vals[2]), Epoch: r.text(3), Values: json.RawMessage(r.text(6)), Config: config,
		Checksum: r.text(7), IssuedAt: r.text(8), Signature: r.text(9), KeyID: r.text(10),
		UpdatedAt: r.text(4), UpdatedBy: r.text(5), Deleted: r.vals[11] != int64(0), Index: uintOf(r.vals[12]),
	}, nil
}

// bareRecord stands for a service that has a schema and no document.
func bareRecord(schema *row) *conf.Record {
	return &conf.Record{
		Service: schema.text(0), Schema: json.RawMessage(schema.text(1)),
		UpdatedAt: schema.text(3), UpdatedBy: schema.text(4),
	}
}

// readRecord reads one service, proved by the digests of its rows.
func readRecord(ctx context.Context, q querier, dig *digester, service string) (*conf.Record, error) {
	h, err := readHead(ctx, q, dig, service)
	if err == nil && h.rec == nil {
		err = conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services that exist: holdfast get")
	}
	if err != nil {
		return nil, err
	}
	return h.rec, nil
}

// Record reads one service: its document, or its tombstone, or (Version 0) only
// its schema. CodeNotFound when there is nothing.
func (s *Store) Record(ctx context.Context, service string) (*conf.Record, error) {
	var rec *conf.Record
	err := s.read(ctx, "read "+service, func(q querier) error {
		var err error
		rec, err = readRecord(ctx, q, newDigester(), service)
		return err
	})
	return rec, err
}

// Records calls fn with every service, tombstones and bare schemas too, all as
// of one moment. An error of fn ends it and is returned.
func (s *Store) Records(ctx context.Context, fn func(*conf.Record) error) error {
	var stopped error
	give := func(rec *conf.Record) error {
		stopped = fn(rec)
		return stopped
	}
	err := s.read(ctx, "read the services", func(q querier) error {
		dig := newDigester()
		schemas := map[string]*row{}
		err := eachRow(ctx, q, tableSchemas, dig, func(vals []any, d [sha256.Size]byte) error {
			schemas[textOf(vals[0])] = &row{append([]any(nil), vals...), d}
			return nil
		})
		if err != nil {
			return err
		}
		secrets, err := allSecrets(ctx, q, dig)
		if err != nil {
			return err
		}
		err = eachRow(ctx, q, tableConfigs, dig, func(vals []any, d [sha256.Size]byte) error {
			rec, err := recordOf(&row{vals, d})
			if err != nil {
				return err
			}
			rec.Secrets = secrets[rec.Service]
			if sc := schemas[rec.Service]; sc != nil {
				rec.Schema = json.RawMessage(sc.text(1))
				delete(schemas, rec.Service)
			}
			return give(rec)
		})
		if err != nil {
			return err
		}
		for _, service := range conf.SortedKeys(schemas) {
			if err := give(bareRecord(schemas[service])); err != nil {
				return err
			}
		}
		return nil
	})
	if stopped != nil {
		return stopped
	}
	return err
}

// read runs f on a read transaction: all of its queries see one moment.
func (s *Store) read(ctx context.Context, what string, f func(q querier) error) error {
	tx, err := s.reads.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(what, err)
	}
	defer func() { _ = tx.Rollback() }()
	return s.fault(what, f(tx))
}
