package localapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Renderer makes documents. Its zero value renders without secrets.
type Renderer struct {
	// Secrets returns the secret values that this agent has for the service of
	// rec, by dotted key; nil when there are none. It is called once a version,
	// and the map must not change afterwards.
	Secrets func(service string, rec *conf.Record) map[string]any
}

// Document is one version of one service, ready to be sent. It is immutable.
type Document struct {
	service string
	version uint64
	epoch   string
	exists  bool
	deleted bool

	id            string // "<epoch>:<version>", the id of its event
	versionHeader []string
	epochHeader   []string

	plain *content
	full  *content // with secrets; the same as plain when there are none
	err   error    // the reason that full is missing
}

// content is a document with or without secrets.
type content struct {
	representation
	derived derivedForms
}

// representation is a body with the headers that describe it.
type representation struct {
	body        []byte
	tag         string   // the opaque part of the ETag, with its quotes
	etag        []string // the whole ETag
	length      []string
	contentType []string
	secret      bool // contains a secret value
}

// Header values that never change. They are shared by all responses.
var (
	typeJSON        = []string{"application/json"}
	typeText        = []string{"text/plain; charset=utf-8"}
	typeEvents      = []string{"text/event-stream"}
	cacheRevalidate = []string{"no-cache"}
	retrySoon       = []string{"1"}
	cacheNever      = []string{"no-store"}
	noSniff         = []string{"nosniff"}
	allowReads      = []string{"GET, HEAD"}
	closeHeader     = []string{"close"}
)

// Render makes the document of rec. The agent passes it to its view.
func (r *Renderer) Render(rec *conf.Record) *Document {
	version := strconv.FormatUint(rec.Version, 10)
	d := &Document{
		service: rec.Service, version: rec.Version, epoch: rec.Epoch,
		exists: rec.Exists(), deleted: rec.Deleted,
		id:            rec.Epoch + ":" + version,
		versionHeader: []string{version},
	}
	if rec.Epoch != "" {
		d.epochHeader = []string{rec.Epoch}
	}
	if !d.exists {
		return d
	}
	d.plain = newContent(rec, version, rec.Config)
	d.full = d.plain
	if r == nil || r.Secrets == nil {
		return d
	}
	secrets := r.Secrets(rec.Service, rec)
	if len(secrets) == 0 {
		return d
	}
	merged, err := mergeSecrets(rec, secrets)
	if err != nil {
		d.full, d.err = nil, err
		return d
	}
	d.full = newContent(rec, version, merged)
	d.full.secret = true
	d.full.derived.public = &d.plain.derived
	return d
}

func newContent(rec *conf.Record, version string, config []byte) *content {
	sum := sha256.New()
	sum.Write([]byte(rec.Epoch))
	sum.Write([]byte{0})
	sum.Write(config)
	tag := `"` + version + "-" + hex.EncodeToString(sum.Sum(nil)[:8]) + `"`
	body := encodeBody(rec, config)
	return &content{
		representation: representation{
			body: body, tag: tag, etag: []string{"W/" + tag},
			length: []string{strconv.Itoa(len(body))}, contentType: typeJSON,
		},
		derived: derivedForms{config: config},
	}
}

// encodeBody writes conf.ReadResponse by hand: config keeps its signed bytes, and
// encoding/json would scan it again for every version.
func encodeBody(rec *conf.Record, config []byte) []byte {
	service, meta := encode(rec.Service), encode(rec.Metadata())
	b := make([]byte, 0, len(service)+len(config)+len(meta)+40)
	b = append(b, `{"service":`...)
	b = append(b, service...)
	b = append(b, `,"config":`...)
	b = append(b, config...)
	b = append(b, `,"metadata":`...)
	b = append(b, meta...)
	return append(b, '}')
}

// encode is httperror.Marshal for values that cannot fail.
func encode(v any) []byte {
	b, err := httperror.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return b
}

// mergeSecrets adds the secrets to the effective document at their place in the
// schema: a property named with dots stays one member, other dots are levels.
func mergeSecrets(rec *conf.Record, secrets map[string]any) ([]byte, error) {
	doc, err := conf.ParseObject(rec.Config, len(rec.Config))
	if err != nil {
		return nil, err
	}
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if rec.Schema != nil {
		if err := json.Unmarshal(rec.Schema, &schema); err != nil {
			return nil, conf.Errorf(conf.CodeCorrupt, "schema of %s: %w", rec.Service, err)
		}
	}
	for _, key := range conf.SortedKeys(secrets) {
		_, literal := schema.Properties[key]
		setValue(doc, key, secrets[key], literal)
	}
	merged, err := httperror.Marshal(doc)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "secrets of %s: %w", rec.Service, err)
	}
	return merged, nil
}

func setValue(doc map[string]any, key string, value any, literal bool) {
	head, rest, dotted := strings.Cut(key, ".")
	if literal || !dotted {
		doc[key] = value
		return
	}
	sub, ok := doc[head].(map[string]any)
	if !ok {
		sub = map[string]any{}
		doc[head] = sub
	}
	setValue(sub, rest, value, false)
}
