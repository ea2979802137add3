package tables

import (
	"cmp"
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

// ConfigJSON is the complete conf.ServiceConfig as config_json contains it. It
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
		Values: json.RawMessage(r.Text(6)), Checksum: r.Text(7), IssuedAt: r.Text(ConfigsIssued),
		KeyID: r.Text(ConfigsKey), Deleted: r.Vals[11] != int64(0), Index: UintOf(r.Vals[12]),
	}
	rec.Signature, rec.VersionSignature, _ = strings.Cut(r.Text(ConfigsSigned), " ")
	text := r.Text(1)
	head, tail := configFrame(rec.Service, rec.Version, rec.UpdatedAt, rec.Epoch)
	if len(text) < len(head)+len(tail) || !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) {
		return nil, Corrupt("config_json of %s does not match its row", rec.Service)
	}
	rec.Config = json.RawMessage(text[len(head) : len(text)-len(tail)])
	return rec, nil
}

// Signatures is what the column signature has: that of the update and, after a space, that
// of its version where there is one.
func Signatures(update, version string) string {
	if version == "" {
		return update
	}
	return update + " " + version
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
	if rec.Secrets, err = SecretsOf(ctx, q, dig, service); err != nil {
		return nil, err
	}
	err = ReadStaged(ctx, q, dig, rec)
	return &StoredRecord{Record: rec, Digest: r.Digest, Stored: true}, err
}

const sqlSecretsOf = "SELECT service, key, encrypted_value, key_id, created_at, updated_at, digest FROM encrypted_secrets WHERE service = ? ORDER BY key"

// SecretsOf reads the secrets of a service, in ascending order of their keys.
func SecretsOf(ctx context.Context, q Querier, dig *Digester, service string) (out []conf.SealedSecret, err error) {
	err = each(ctx, q, dig, Secrets, false, func(r *Row) error {
		if r.Text(SecretService) != service {
			return Corrupt("the index of %s has a secret of another service under %s", Secrets.Name, service)
		}
		out = append(out, secretOf(r))
		return nil
	}, sqlSecretsOf, service)
	return out, err
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

// Columns of members.
const (
	MemberNode = iota
	MemberRole
	MemberService
	MemberAddr
	MemberVersion
	MemberKeyHash
	MemberJoined
	MemberRemoved
)

// Columns of member_keys.
const (
	KeyNode = iota
	KeyHash
	KeyRole
	KeySince
	KeyRevoked
	KeyEnds
)

// Columns of join_tokens.
const (
	TokenID = iota
	TokenSecretHash
	TokenRole
	TokenService
	TokenExpires
	TokenUses
	TokenUsed
	TokenCreated
	TokenCreatedBy
	TokenRevoked
)

// Columns of api_tokens.
const (
	apiID = iota
	apiName
	apiRole
	apiHash
	apiExpires
	apiCreated
	apiCreatedBy
	APIRevoked
)

// MemberOf is a row of members.
func MemberOf(r *Row) conf.Member {
	return conf.Member{
		NodeID: r.Text(MemberNode), Role: r.Text(MemberRole), Service: r.Text(MemberService), Addr: r.Text(MemberAddr),
		Version: r.Text(MemberVersion), JoinedAt: r.Text(MemberJoined), RemovedAt: r.Text(MemberRemoved),
	}
}

// MemberKeyOf is a row of member_keys.
func MemberKeyOf(r *Row) conf.MemberKey {
	return conf.MemberKey{
		NodeID: r.Text(KeyNode), KeyHash: r.Text(KeyHash), Role: r.Text(KeyRole), Since: r.Text(KeySince),
		RevokedAt: r.Text(KeyRevoked), EndsAt: r.Text(KeyEnds),
	}
}

// JoinTokenOf is a row of join_tokens: as the command created it, and as it is now.
func JoinTokenOf(r *Row) (command.JoinToken, conf.JoinTokenInfo) {
	jt := command.JoinToken{
		ID: r.Text(TokenID), SecretHash: r.Text(TokenSecretHash), Role: r.Text(TokenRole), Service: r.Text(TokenService),
		ExpiresAt: r.Text(TokenExpires), CreatedBy: r.Text(TokenCreatedBy), Uses: int(IntOf(r.Vals[TokenUses])),
	}
	return jt, conf.JoinTokenInfo{
		ID: jt.ID, Role: jt.Role, Service: jt.Service, ExpiresAt: jt.ExpiresAt, CreatedBy: jt.CreatedBy, CreatedAt: r.Text(TokenCreated),
		Uses: jt.Uses, Used: int(IntOf(r.Vals[TokenUsed])), Revoked: r.Vals[TokenRevoked] != nil,
	}
}

// CompareJoinTokens orders join tokens by their time.
func CompareJoinTokens(a, b conf.JoinTokenInfo) int {
	return cmp.Or(strings.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.ID, b.ID))
}

// NoJoinToken is the error for a join token that does not exist.
func NoJoinToken(id string) *conf.Error {
	return conf.Errorf(conf.CodeNotFound, "no join token %q", id).WithHint("list the tokens: holdfast token list")
}

// APITokenOf is a row of api_tokens.
func APITokenOf(r *Row) conf.APIToken {
	return conf.APIToken{
		APITokenInfo: conf.APITokenInfo{
			ID: r.Text(apiID), Name: r.Text(apiName), Role: conf.Role(r.Text(apiRole)), ExpiresAt: r.Text(apiExpires),
			CreatedAt: r.Text(apiCreated), CreatedBy: r.Text(apiCreatedBy), Revoked: r.Vals[APIRevoked] != nil,
		},
		SecretHash: r.Text(apiHash),
	}
}

// ReadAPITokens reads all API tokens by id.
func ReadAPITokens(ctx context.Context, q Querier, dig *Digester) (map[string]conf.APIToken, error) {
	out := map[string]conf.APIToken{}
	err := Each(ctx, q, dig, APITokens, func(r *Row) error {
		t := APITokenOf(r)
		out[t.ID] = t
		return nil
	})
	return out, err
}

// ReadKeyring reads all keys, in the order in which they were announced.
func ReadKeyring(ctx context.Context, q Querier, dig *Digester) (conf.Keyring, error) {
	ring := conf.Keyring{}
	err := Each(ctx, q, dig, Keyring, func(r *Row) error {
		ring = append(ring, conf.Key{
			Kind: r.Text(0), ID: r.Text(1), Public: r.Text(2), AnnouncedAt: r.Text(3), NotBefore: r.Text(4), NotAfter: r.Text(5),
			CreatedBy: r.Text(6), Proof: r.Text(7), Hold: IntOf(r.Vals[8]) == 1,
		})
		return nil
	})
	slices.SortStableFunc(ring, func(a, b conf.Key) int {
		return cmp.Or(strings.Compare(a.AnnouncedAt, b.AnnouncedAt), strings.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
	})
	return ring, err
}
