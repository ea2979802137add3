package lkg

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	// MaxFile is the size over which Load refuses a file.
	MaxFile = 256 << 20
	// maxReprinted is the size up to which a file that is not in canonical form is
	// parsed to find its HMAC. Parsing takes many times a file's size in memory, and
	// anybody who can write the file decides how much.
	maxReprinted = 16 << 20
	// fileDepth is how deep payload._meta.services.<service>.values stands.
	fileDepth = 5
)

// Load reads and verifies a file. A file that does not exist is CodeNotFound;
// one that is not exactly what was written is CodeCorrupt, and says what.
// The file is the work of one of keys: after a rotation the old one is still taken.
func Load(path string, keys ...[]byte) (*Content, error) {
	data, err := read(path, "last-known-good file", MaxFile)
	if err != nil {
		return nil, err
	}
	c, err := Decode(data, keys...)
	if err != nil {
		if e, ok := errors.AsType[*conf.Error](err); ok && e.Code == conf.CodeCorrupt {
			named := *e
			named.Message = "last-known-good file " + path + ": " + e.Message
			return nil, &named
		}
		return nil, err
	}
	return c, nil
}

func read(path, what string, limit int64) ([]byte, error) {
	// O_NONBLOCK: a named pipe in the place of the file must not stop the agent.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, conf.Errorf(conf.CodeNotFound, "there is no %s %s", what, path)
	}
	if err != nil {
		return nil, unreadable(path, what, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, corrupt("%s %s: not a regular file", what, path)
	}
	if info.Size() > limit {
		return nil, corrupt("%s %s: %d bytes are over the limit of %d", what, path, info.Size(), limit)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, unreadable(path, what, err)
	}
	return data[:n], nil
}

func unreadable(path, what string, err error) error {
	return conf.Errorf(conf.CodeCorrupt, "%s %s: cannot be read: %w", what, path, bare(err)).
		WithHint("check the disk, and that the agent's user owns the file")
}

func corrupt(format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeCorrupt, format, args...).
		WithHint("it is written anew as soon as a replica is up; delete it if it should not be there")
}

// Decode verifies the bytes of a file. It takes data over: it writes to it, and
// the Content keeps pieces of it.
func Decode(data []byte, keys ...[]byte) (*Content, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k []byte) bool { return len(k) == 0 })
	if len(keys) == 0 {
		return nil, errNoKey
	}
	var body []byte
	by := 0
	for i, key := range keys {
		if body = verified(data, key); body != nil {
			by = i
			break
		}
	}
	if body == nil {
		var err error
		if body, by, err = reprinted(data, keys); err != nil {
			return nil, err
		}
	}
	c, err := decodeBody(body)
	if err != nil {
		return nil, corrupt("damaged before it was signed: %v", err)
	}
	c.By = by
	return c, nil
}

// verified is the fast path: the file is in canonical form, so what was signed
// are its own bytes without the last member. It returns them, or nil.
func verified(data, key []byte) []byte {
	cut := len(data) - len(signatureHead) - signatureSize - len(signatureTail)
	if cut < 0 || string(data[cut:cut+len(signatureHead)]) != signatureHead ||
		string(data[len(data)-len(signatureTail):]) != signatureTail {
		return nil
	}
	signature := string(data[cut+len(signatureHead) : len(data)-len(signatureTail)])
	// The comma in front of the signature becomes the end of what is signed.
	data[cut] = '}'
	if !seal.CheckMAC(key, data[:cut+1], signature) {
		data[cut] = signatureHead[0]
		return nil
	}
	return data[: cut+1 : cut+1]
}

// reprinted is the slow path: any spelling of the same JSON. It returns the
// canonical form of what is signed, or says what is wrong with the file.
func reprinted(data []byte, keys [][]byte) (body []byte, by int, err error) {
	if len(data) > maxReprinted {
		return nil, 0, badMAC()
	}
	v, err := conf.ParseJSONDepth(data, maxReprinted, conf.MaxDepth+fileDepth)
	if err != nil {
		return nil, 0, corrupt("damaged: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, 0, corrupt("not a JSON object")
	}
	if err := checkMembers(m); err != nil {
		return nil, 0, err
	}
	signature := m["signature"].(string)
	delete(m, "signature")
	body, err = seal.Canonical(m)
	if err != nil {
		return nil, 0, corrupt("damaged: %w", err)
	}
	for i, key := range keys {
		if seal.CheckMAC(key, body, signature) {
			return body, i, nil
		}
	}
	return nil, 0, badMAC()
}

func badMAC() error {
	return conf.Errorf(conf.CodeCorrupt, "its HMAC does not match").
		WithHint("somebody changed the file, or LKG_HMAC_KEY_BASE64 is not the key that it was written with; " +
			"it is written anew as soon as a replica is up")
}

func checkMembers(m map[string]any) error {
	known := []string{"algorithm", "config_epoch", "generated_at", "payload", "signature"}
	for _, name := range known {
		v, ok := m[name]
		if !ok {
			return corrupt("member %q is missing", name)
		}
		want := "a string"
		if _, ok = v.(string); name == "payload" {
			want = "an object"
			_, ok = v.(map[string]any)
		}
		if !ok {
			return corrupt("member %q is not %s", name, want)
		}
	}
	if len(m) > len(known) {
		for _, name := range known {
			delete(m, name)
		}
		return corrupt("unknown member %q", conf.SortedKeys(m)[0])
	}
	if m["algorithm"] != Algorithm {
		return corrupt("algorithm is not %s", Algorithm)
	}
	return nil
}

// decodeBody reads the signed part, in canonical form.
func decodeBody(body []byte) (*Content, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("not UTF-8")
	}
	d := decoder{cursor: cursor{jsonscan.Scanner{Data: body}}, content: &Content{}}
	seen := 0
	err := d.object(func(name string) error {
		seen++
		switch name {
		case "algorithm":
			if s, err := d.text(); err != nil || s != Algorithm {
				return d.errorf("algorithm is not %s", Algorithm)
			}
			return nil
		case "config_epoch":
			return d.textInto(&d.content.Epoch)
		case "generated_at":
			return d.time()
		case "payload":
			return d.payload()
		}
		return d.errorf("unknown member %q", name)
	})
	if err != nil {
		return nil, err
	}
	if seen != 4 {
		return nil, errors.New("a member is missing")
	}
	if !d.End() {
		return nil, d.errorf("more text after the object")
	}
	return d.content, nil
}

type decoder struct {
	cursor
	content *Content
}

func (d *decoder) textInto(dst *string) (err error) {
	*dst, err = d.text()
	return err
}

func (d *decoder) numberInto(dst *uint64) (err error) {
	*dst, err = d.number()
	return err
}

func (d *decoder) rawInto(dst *json.RawMessage, first byte) error {
	b, err := d.raw(first)
	*dst = b
	return err
}

func (d *decoder) time() error {
	s, err := d.text()
	if err != nil {
		return err
	}
	at, err := conf.ParseTime(s)
	if err != nil {
		return d.errorf("generated_at: %v", err)
	}
	d.content.GeneratedAt = at.Truncate(time.Microsecond) // all that Encode writes
	return nil
}

// payload reads _meta, which sorts before all services, and then the documents.
func (d *decoder) payload() error {
	next := 0 // the first record that may still get its document
	meta := false
	skip := func(until string) error {
		for ; next < len(d.content.Records) && d.content.Records[next].Service != until; next++ {
			if r := d.content.Records[next]; inPayload(r) {
				return fmt.Errorf("service %q has no document", r.Service)
			}
		}
		return nil
	}
	err := d.object(func(name string) error {
		if !meta {
			meta = true
			if name != metaKey {
				return d.errorf("payload does not start with %s", metaKey)
			}
			return d.meta()
		}
		if err := skip(name); err != nil {
			return err
		}
		if next == len(d.content.Records) || !inPayload(d.content.Records[next]) {
			return d.errorf("document of unknown service %q", name)
		}
		r := d.content.Records[next]
		next++
		if err := d.rawInto(&r.Config, '{'); err != nil {
			return err
		}
		return checkDocument(r)
	})
	if err != nil {
		return err
	}
	if !meta {
		return d.errorf("payload has no %s", metaKey)
	}
	return skip("")
}

func checkDocument(r *conf.Record) error {
	if seal.Checksum(r.Config) != r.Checksum {
		return fmt.Errorf("document of %q does not match its checksum", r.Service)
	}
	return nil
}

func (d *decoder) meta() error {
	seen := 0
	err := d.object(func(name string) error {
		seen++
		switch name {
		case "index":
			return d.numberInto(&d.content.Index)
		case "past":
			seen--
			return d.array(func() error {
				epoch, err := d.text()
				d.content.Past = append(d.content.Past, epoch)
				return err
			})
		case "services":
			return d.object(d.record)
		}
		return d.errorf("unknown member %q in %s", name, metaKey)
	})
	if err == nil && seen != 2 {
		return d.errorf("a member of %s is missing", metaKey)
	}
	return err
}

func (d *decoder) record(service string) error {
	if err := conf.CheckService(service); err != nil {
		return d.errorf("%v", err)
	}
	r := &conf.Record{Service: service, Epoch: d.content.Epoch}
	version := false
	err := d.object(func(name string) error {
		switch name {
		case "checksum":
			return d.textInto(&r.Checksum)
		case "config_epoch":
			return d.textInto(&r.Epoch)
		case "deleted":
			r.Deleted = true
			return d.literal("true")
		case "index":
			return d.numberInto(&r.Index)
		case "issued_at":
			return d.textInto(&r.IssuedAt)
		case "key_id":
			return d.textInto(&r.KeyID)
		case "schema":
			return d.rawInto(&r.Schema, 0)
		case "sealed_secrets":
			return d.sealed(r)
		case "secrets":
			return d.secrets(service)
		case "signature":
			return d.textInto(&r.Signature)
		case "updated_at":
			return d.textInto(&r.UpdatedAt)
		case "updated_by":
			return d.textInto(&r.UpdatedBy)
		case "values":
			return d.rawInto(&r.Values, '{')
		case "version":
			version = true
			return d.numberInto(&r.Version)
		}
		return d.errorf("unknown member %q of service %q", name, service)
	})
	if err != nil {
		return err
	}
	if !version || (r.Deleted && r.Version == 0) {
		return d.errorf("service %q has no version", service)
	}
	d.content.Records = append(d.content.Records, r)
	if r.Deleted {
		r.Config = json.RawMessage(emptyDocument)
		return checkDocument(r)
	}
	return nil
}

func (d *decoder) sealed(r *conf.Record) error {
	return d.array(func() error {
		var s conf.SealedSecret
		seen := 0
		err := d.object(func(name string) error {
			seen++
			switch name {
			case "created_at":
				return d.textInto(&s.CreatedAt)
			case "encrypted_value":
				return d.textInto(&s.Value)
			case "key":
				return d.textInto(&s.Key)
			case "key_id":
				return d.textInto(&s.KeyID)
			case "updated_at":
				return d.textInto(&s.UpdatedAt)
			}
			return d.errorf("unknown member %q of a sealed secret", name)
		})
		if err == nil && seen != 5 {
			err = d.errorf("a member of a sealed secret is missing")
		}
		r.Secrets = append(r.Secrets, s)
		return err
	})
}

func (d *decoder) secrets(service string) error {
	var fields []conf.Field
	err := d.array(func() error {
		source := conf.SourceEnv
		f := conf.Field{Service: service, IsSecret: true, SecretSource: &source}
		seen := 0
		err := d.object(func(name string) error {
			seen++
			switch name {
			case "env":
				return d.textInto(&f.Env)
			case "key":
				return d.textInto(&f.Key)
			case "type":
				return d.textInto((*string)(&f.Type))
			}
			return d.errorf("unknown member %q of a secret", name)
		})
		if err == nil && seen != 3 {
			err = d.errorf("a member of a secret is missing")
		}
		fields = append(fields, f)
		return err
	})
	if err != nil {
		return err
	}
	if d.content.Secrets == nil {
		d.content.Secrets = map[string][]conf.Field{}
	}
	d.content.Secrets[service] = fields
	return nil
}
