package tables

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Columns of service_configs that a Reissue reads or changes.
const (
	ConfigsVersion = 2
	ConfigsEpoch   = 3
	ConfigsIssued  = 8
	ConfigsSigned  = 9
	ConfigsKey     = 10
)

// Columns of encrypted_secrets.
const (
	SecretService = iota
	SecretKey
	SecretValue
	SecretKeyID
	SecretCreated
	SecretUpdated
)

// ConfigJSON is the complete conf.ServiceConfig as it stands in config_json. It
// is put together by hand so that every byte of config stays.
func ConfigJSON(service string, config json.RawMessage, version uint64, at, epoch string) string {
	head, tail := configFrame(service, version, at, epoch)
	return head + string(config) + tail
}

func configFrame(service string, version uint64, at, epoch string) (head, tail string) {
	return `{"service":` + Quote(service) + `,"config":`,
		`,"version":` + strconv.FormatUint(version, 10) + `,"updated_at":` + Quote(at) + `,"config_epoch":` + Quote(epoch) + `}`
}

// Quote is s as a JSON string.
func Quote(s string) string {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string never fails
	return string(b)
}

// RecordOf is the record of a row of service_configs, without what other tables
// have: the schema and the secrets.
func RecordOf(r *Row) (*conf.Record, error) {
	rec := &conf.Record{
		Service: r.Text(0), Version: UintOf(r.Vals[ConfigsVersion]), Epoch: r.Text(ConfigsEpoch), UpdatedAt: r.Text(4), UpdatedBy: r.Text(5),
		Values: json.RawMessage(r.Text(6)), Checksum: r.Text(7), IssuedAt: r.Text(ConfigsIssued), Signature: r.Text(ConfigsSigned),
		KeyID: r.Text(ConfigsKey), Deleted: r.Vals[11] != int64(0), Index: UintOf(r.Vals[12]),
	}
	text := r.Text(1)
	head, tail := configFrame(rec.Service, rec.Version, rec.UpdatedAt, rec.Epoch)
	if len(text) < len(head)+len(tail) || !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) {
		return nil, Corrupt("config_json of %s is not the one of its row", rec.Service)
	}
	rec.Config = json.RawMessage(text[len(head) : len(text)-len(tail)])
	return rec, nil
}

// BareRecord is the record of a service that has a schema and no document.
func BareRecord(schema *Row) *conf.Record {
	return &conf.Record{
		Service: schema.Text(0), Schema: json.RawMessage(schema.Text(1)),
		UpdatedAt: schema.Text(3), UpdatedBy: schema.Text(4),
	}
}

// StoredRecord is a service as its rows have it. It is never modified.
type StoredRecord struct {
	Record *conf.Record      // nil when there is no such service
	Digest [sha256.Size]byte // of the row of service_configs
	Stored bool              // there is such a row
}

// ReadStored reads all rows of a service.
func ReadStored(ctx context.Context, q Querier, dig *Digester, service string) (*StoredRecord, error) {
	schema, err := Read(ctx, q, dig, Schemas, service)
	if err != nil {
		return nil, err
	}
	r, err := Read(ctx, q, dig, Configs, service)
	switch {
	case err != nil:
		return nil, err
	case r == nil && schema == nil:
		return &StoredRecord{}, nil
	case r == nil:
		return &StoredRecord{Record: BareRecord(schema)}, nil
	}
	rec, err := RecordOf(r)
	if err != nil {
		return nil, err
	}
	if schema != nil {
		rec.Schema = json.RawMessage(schema.Text(1))
	}
	rec.Secrets, err = SecretsOf(ctx, q, dig, service)
	return &StoredRecord{Record: rec, Digest: r.Digest, Stored: true}, err
}

const sqlSecretsOf = "SELECT service, key, encrypted_value, key_id, created_at, updated_at, digest FROM encrypted_secrets WHERE service = ? ORDER BY key"

// SecretsOf reads the secrets of a service, in ascending order of their keys.
func SecretsOf(ctx context.Context, q Querier, dig *Digester, service string) ([]conf.SealedSecret, error) {
	rows, err := q.QueryContext(ctx, sqlSecretsOf, service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []conf.SealedSecret
	n := len(Secrets.Cols)
	vals, dst := ScanBuffer(n + 1)
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return nil, err
		}
		d, err := dig.Row(Secrets.Name, vals[:n])
		if err != nil {
			return nil, err
		}
		if !sameDigest(d, vals[n]) || TextOf(vals[SecretService]) != service {
			return nil, Corrupt("a secret of %s does not have its digest", service)
		}
		out = append(out, secretOf(&Row{vals, d}))
	}
	return out, rows.Err()
}

func secretOf(r *Row) conf.SealedSecret {
	return conf.SealedSecret{
		Key: r.Text(SecretKey), Value: r.Text(SecretValue), KeyID: r.Text(SecretKeyID),
		CreatedAt: r.Text(SecretCreated), UpdatedAt: r.Text(SecretUpdated),
	}
}

// AllSecrets reads all secrets by service.
func AllSecrets(ctx context.Context, q Querier, dig *Digester) (map[string][]conf.SealedSecret, error) {
	all := map[string][]conf.SealedSecret{}
	err := Each(ctx, q, dig, Secrets, func(r *Row) error {
		service := r.Text(SecretService)
		all[service] = append(all[service], secretOf(r))
		return nil
	})
	for _, list := range all {
		slices.SortFunc(list, func(a, b conf.SealedSecret) int { return strings.Compare(a.Key, b.Key) })
	}
	return all, err
}

// requestVersions is the form of requests.result_json.
type requestVersions struct {
	Versions map[string]uint64 `json:"versions,omitempty"`
}

// RequestJSON is what requests.result_json has of an edit's result.
func RequestJSON(versions map[string]uint64) (string, error) {
	data, err := json.Marshal(requestVersions{versions})
	return string(data), err
}

// ReadRequest reads the result of the Edit with this id, or ok false.
func ReadRequest(ctx context.Context, q Querier, dig *Digester, id string) (res command.Result, ok bool, err error) {
	r, err := Read(ctx, q, dig, Requests, id)
	if err != nil || r == nil {
		return res, false, err
	}
	var was requestVersions
	if err := json.Unmarshal([]byte(r.Text(2)), &was); err != nil {
		return res, false, Corrupt("the result of request %q: %w", id, err)
	}
	return command.Result{Index: UintOf(r.Vals[1]), Versions: was.Versions, Duplicate: true}, true, nil
}
