package lkg

import (
	"bufio"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Algorithm is the only value of the file's member of that name.
const Algorithm = "hmac-sha256"

const metaKey = "_meta"

// maxPastEpochs is the maximum of past epochs in a file.
const maxPastEpochs = 64

// Content is the content of a last-known-good file. It is immutable once shared.
type Content struct {
	Epoch       string
	GeneratedAt time.Time
	Index       uint64         // log index of the newest change in it
	PastEpochs  []string       // earlier epochs, the oldest first: never accepted again
	Records     []*conf.Record // tombstones and services without a document too
	// Secrets are, for each service, the fields from the environment, with their Key,
	// Service, Type, Env, IsSecret and SecretSource only.
	Secrets map[string][]conf.Field
	// Staged is what there is of a service beside its record, which is the one that the
	// agent serves.
	Staged   map[string]*Staged
	KeyIndex int     // set by Decode: index of the key that signed the file
	Journal  *Loaded // set by Load
}

// Encode writes the file of c to w. The documents, values and schemas of its records
// must be in RFC 8785 form; it copies them unchanged.
func Encode(w io.Writer, key []byte, c *Content) error {
	_, err := encode(w, key, c)
	return err
}

func encode(w io.Writer, key []byte, c *Content) (signature string, err error) {
	if len(key) == 0 {
		return "", errNoKey
	}
	records, err := sortRecords(c.Records)
	if err != nil {
		return "", err
	}
	mac := seal.NewMAC(key)
	out := bufio.NewWriterSize(io.MultiWriter(mac, w), 128<<10)
	b := make([]byte, 0, 4<<10)

	b = append(b, `{"algorithm":"`+Algorithm+`","config_epoch":`...)
	b = seal.AppendString(b, c.Epoch)
	b = seal.AppendString(append(b, `,"generated_at":`...), conf.FormatTime(c.GeneratedAt))
	b = append(b, `,"payload":{"`+metaKey+`":{"index":`...)
	b = strconv.AppendUint(b, c.Index, 10)
	if len(c.PastEpochs) > 0 {
		b = append(b, `,"past":[`...)
		for i, epoch := range c.PastEpochs[max(0, len(c.PastEpochs)-maxPastEpochs):] {
			if i > 0 {
				b = append(b, ',')
			}
			b = seal.AppendString(b, epoch)
		}
		b = append(b, ']')
	}
	b = append(b, `,"services":{`...)
	for i, r := range records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(seal.AppendString(b, r.Service), ':')
		b = appendMeta(b, r, metaOf{epoch: c.Epoch, secrets: c.Secrets[r.Service], staged: c.Staged[r.Service]})
		_, _ = out.Write(b) // Flush returns the error
		b = b[:0]
	}
	b = append(b, "}}"...)
	for _, r := range records {
		if !inPayload(r) {
			continue
		}
		b = seal.AppendString(append(b, ','), r.Service)
		b = append(append(b, ':'), r.Config...)
		_, _ = out.Write(b)
		b = b[:0]
	}
	b = append(b, '}')
	_, _ = out.Write(b)
	if err := out.Flush(); err != nil {
		return "", err
	}
	// The signed bytes end where the signature is inserted.
	mac.Write([]byte{'}'})
	signature = hex.EncodeToString(mac.Sum(nil))
	_, err = io.WriteString(w, signatureHead+signature+signatureTail)
	return signature, err
}

const (
	signatureHead = `,"signature":"`
	signatureTail = `"}`
	signatureSize = 64
)

// inPayload reports whether payload contains the document of r. A tombstone and a
// service that was never configured have none.
func inPayload(r *conf.Record) bool { return r.Version > 0 && !r.Deleted }

// sortRecords returns the records sorted by service, and rejects duplicates.
func sortRecords(records []*conf.Record) ([]*conf.Record, error) {
	byService := func(a, b *conf.Record) int { return strings.Compare(a.Service, b.Service) }
	if !slices.IsSortedFunc(records, byService) {
		records = slices.Clone(records)
		slices.SortFunc(records, byService)
	}
	for i, r := range records {
		if err := conf.CheckService(r.Service); err != nil {
			return nil, err
		}
		if i > 0 && records[i-1].Service == r.Service {
			return nil, conf.Errorf(conf.CodeInternal, "service %q is in the content twice", r.Service)
		}
		if inPayload(r) && len(r.Config) == 0 || r.Deleted && string(r.Config) != emptyDocument {
			return nil, conf.Errorf(conf.CodeInternal, "version %d of %q has the wrong document", r.Version, r.Service)
		}
	}
	return records, nil
}

const emptyDocument = "{}"

// metaOf is what a record is written with.
type metaOf struct {
	epoch   string // of the content
	secrets []conf.Field
	staged  *Staged
	config  bool // with the document, which is not in payload
}

// appendMeta appends the members in the order of their names, without empty ones.
func appendMeta(b []byte, r *conf.Record, of metaOf) []byte {
	first := true
	member := func(name string) {
		if first {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	text := func(name, value string) {
		if value != "" {
			member(name)
			b = seal.AppendString(b, value)
		}
	}
	number := func(name string, value uint64) {
		member(name)
		b = strconv.AppendUint(b, value, 10)
	}
	raw := func(name string, value []byte) {
		if len(value) > 0 {
			member(name)
			b = append(b, value...)
		}
	}
	text("checksum", r.Checksum)
	if of.config {
		raw("config", r.Config)
	}
	if r.Epoch != of.epoch { // signed in an earlier epoch
		member("config_epoch")
		b = seal.AppendString(b, r.Epoch)
	}
	if r.Deleted {
		member("deleted")
		b = append(b, "true"...)
	}
	number("index", r.Index)
	text("issued_at", r.IssuedAt)
	text("key_id", r.KeyID)
	raw("schema", r.Schema)
	if len(r.Secrets) > 0 {
		member("sealed_secrets")
		b = appendSealed(b, r.Secrets)
	}
	if len(of.secrets) > 0 {
		member("secrets")
		b = appendEnvSecrets(b, of.secrets)
	}
	text("signature", r.Signature)
	if of.staged != nil {
		member("staged")
		b = appendStaged(b, of.staged, of.epoch)
	}
	text("updated_at", r.UpdatedAt)
	text("updated_by", r.UpdatedBy)
	raw("values", r.Values)
	number("version", r.Version)
	text("version_signature", r.VersionSignature)
	return append(b, '}')
}

func appendSealed(b []byte, secrets []conf.SealedSecret) []byte {
	b = append(b, '[')
	for i, s := range secrets {
		if i > 0 {
			b = append(b, ',')
		}
		b = seal.AppendString(append(b, `{"created_at":`...), s.CreatedAt)
		b = seal.AppendString(append(b, `,"encrypted_value":`...), s.Value)
		b = seal.AppendString(append(b, `,"key":`...), s.Key)
		b = seal.AppendString(append(b, `,"key_id":`...), s.KeyID)
		b = seal.AppendString(append(b, `,"updated_at":`...), s.UpdatedAt)
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendEnvSecrets(b []byte, fields []conf.Field) []byte {
	b = append(b, '[')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = seal.AppendString(append(b, `{"env":`...), f.Env)
		b = seal.AppendString(append(b, `,"key":`...), f.Key)
		b = seal.AppendString(append(b, `,"type":`...), string(f.Type))
		b = append(b, '}')
	}
	return append(b, ']')
}

var errNoKey = conf.Errorf(conf.CodeUsage, "no key for the last-known-good file").WithHint("set LKG_HMAC_KEY_BASE64")
