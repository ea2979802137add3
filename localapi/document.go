package localapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Renderer makes documents. Its zero value renders without secrets.
type Renderer struct {
	// Secrets returns the secret values that this agent has for the service of
	// rec, each at its place in the document; nil when there are none. It is called
	// once a version.
	Secrets func(service string, rec *conf.Record) map[string]any

	// Overlay returns what the environment of this agent decides of the document of
	// rec; nil for nothing. It is called once a version.
	Overlay func(rec *conf.Record) Overlay
}

// Overlay is what the environment of an agent decides of a document.
type Overlay struct {
	Config     []byte   // the effective document with it; nil when it is that of the record
	Keys       []string // the plain keys that it decides
	SecretKeys []string // the secrets that it decides
}

// Document is one version of one service, ready to be sent. It is immutable.
type Document struct {
	service string
	version uint64
	epoch   string
	exists  bool
	deleted bool

	id            string // "<epoch>:<version>", of which an event's id is made
	versionHeader []string
	epochHeader   []string

	schema json.RawMessage // of the record

	plain *content
	full  *content // with secrets; the same as plain when there are none
	err   error    // the reason that full is missing

	someRead atomic.Bool // one of the marks is set
	whole    readMark
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
	read        *readMark
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
	allowPost       = []string{"POST"}
	closeHeader     = []string{"close"}
)

// Render makes the document of rec. The agent passes it to its view.
func (r *Renderer) Render(rec *conf.Record) *Document {
	version := strconv.FormatUint(rec.Version, 10)
	d := &Document{
		service: rec.Service, version: rec.Version, epoch: rec.Epoch,
		exists: rec.Exists(), deleted: rec.Deleted,
		id:            rec.Epoch + ":" + version,
		schema:        rec.Schema,
		versionHeader: []string{version},
	}
	d.whole.any = &d.someRead
	if rec.Epoch != "" {
		d.epochHeader = []string{rec.Epoch}
	}
	if !d.exists {
		return d
	}
	var env Overlay
	if r != nil && r.Overlay != nil {
		env = r.Overlay(rec)
	}
	config := []byte(rec.Config)
	if env.Config != nil {
		config = env.Config
	}
	d.plain = d.newContent(rec, version, config, env.Keys)
	d.full = d.plain
	if r == nil || r.Secrets == nil {
		return d
	}
	secrets := r.Secrets(rec.Service, rec)
	if len(secrets) == 0 {
		return d
	}
	merged, err := mergeSecrets(rec, config, secrets)
	if err != nil {
		d.full, d.err = nil, err
		return d
	}
	d.full = d.newContent(rec, version, merged, slices.Sorted(slices.Values(slices.Concat(env.Keys, env.SecretKeys))))
	d.full.secret = true
	d.full.derived.public = &d.plain.derived
	return d
}

// Config returns the effective document as it is served, with the secrets when open is set;
// nil when the service has none.
func (d *Document) Config(open bool) ([]byte, error) {
	switch {
	case !d.exists:
		return nil, nil
	case !open:
		return d.plain.derived.config, nil
	case d.full == nil:
		return nil, d.err
	default:
		return d.full.derived.config, nil
	}
}

func (d *Document) newContent(rec *conf.Record, version string, config []byte, envKeys []string) *content {
	sum := sha256.New()
	sum.Write([]byte(rec.Epoch))
	sum.Write([]byte{0})
	sum.Write(config)
	for _, key := range envKeys { // they are in the body, too
		sum.Write([]byte{0})
		sum.Write([]byte(key))
	}
	tag := `"` + version + "-" + hex.EncodeToString(sum.Sum(nil)[:8]) + `"`
	body := encodeBody(rec, config, envKeys)
	return &content{
		representation: representation{
			body: body, tag: tag, etag: []string{"W/" + tag},
			length: []string{strconv.Itoa(len(body))}, contentType: typeJSON, read: &d.whole,
		},
		derived: derivedForms{config: config, doc: d},
	}
}

// encodeBody writes conf.ReadResponse by hand: config keeps its signed bytes, and
// encoding/json would scan it again for every version.
func encodeBody(rec *conf.Record, config []byte, envKeys []string) []byte {
	metadata := rec.Metadata()
	metadata.EnvKeys = envKeys
	if ro := rec.CandidateOf(); ro != nil {
		metadata.Channel, metadata.Rollout = conf.ChannelCandidate, ro.ID
	}
	service, meta := encode(rec.Service), encode(metadata)
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

// mergeSecrets adds the secrets to the effective document.
func mergeSecrets(rec *conf.Record, config []byte, secrets map[string]any) ([]byte, error) {
	doc, err := conf.ParseObject(config, len(config))
	if err != nil {
		return nil, err
	}
	conf.Merge(doc, secrets)
	merged, err := httperror.Marshal(doc)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "secrets of %s: %w", rec.Service, err)
	}
	return merged, nil
}
