package lkg

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// decodeBody decodes the signed bytes, which are in canonical form.
func decodeBody(body []byte) (*Content, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("not UTF-8")
	}
	d := decoder{jsonscan.Scanner{Data: body}, &Content{}}
	seen := 0
	err := d.object(func(name string) error {
		seen++
		switch name {
		case "algorithm":
			if !d.Literal(`"` + Algorithm + `"`) {
				return d.errorf("algorithm is not %s", Algorithm)
			}
			return nil
		case "config_epoch":
			return d.text(&d.content.Epoch)
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

// decoder reads JSON in canonical form: no white space between the tokens, members in
// ascending order, each once. What it returns counts only when the HMAC of its input is
// right, so its errors explain little. It checks the grammar of the documents, and keeps
// their bytes.
type decoder struct {
	jsonscan.Scanner
	content *Content
}

func (d *decoder) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", d.Pos, fmt.Sprintf(format, args...))
}

func (d *decoder) expect(c byte) error {
	if !d.Accept(c) {
		return d.errorf("expected %q", c)
	}
	return nil
}

// object calls member with each name; member must read the value.
func (d *decoder) object(member func(name string) error) error {
	if err := d.expect('{'); err != nil || d.Accept('}') {
		return err
	}
	for last, first := "", true; ; first = false {
		var name string
		if err := cmp.Or(d.text(&name), d.expect(':')); err != nil {
			return err
		}
		if !first && name <= last {
			return d.errorf("member %q is there twice or out of order", name)
		}
		last = name
		if err := member(name); err != nil || d.Accept('}') {
			return err
		}
		if err := d.expect(','); err != nil {
			return err
		}
	}
}

// array calls element for each element; element must read it.
func (d *decoder) array(element func() error) error {
	if err := d.expect('['); err != nil {
		return err
	}
	for {
		if err := element(); err != nil || d.Accept(']') {
			return err
		}
		if err := d.expect(','); err != nil {
			return err
		}
	}
}

func (d *decoder) text(dst *string) (err error) {
	var ok bool
	if *dst, ok = d.Text(); !ok {
		err = d.errorf("expected a string")
	}
	return err
}

func (d *decoder) number(dst *uint64) (err error) {
	var ok bool
	if *dst, ok = d.Uint(); !ok {
		err = d.errorf("expected an integer")
	}
	return err
}

// raw reads a value, which must start with first unless that is 0. The result has no
// capacity to append.
func (d *decoder) raw(dst *json.RawMessage, first byte) error {
	if first != 0 && d.Peek() != first {
		return d.errorf("expected %q", first)
	}
	from := d.Pos
	if !d.Value(conf.MaxSchemaDepth) {
		return d.errorf("expected a value of at most %d levels", conf.MaxSchemaDepth)
	}
	*dst = d.Data[from:d.Pos:d.Pos]
	return nil
}

// textMember is a string member of an object.
type textMember struct {
	name string
	dst  *string
}

// texts reads an object that has these members and no others.
func (d *decoder) texts(what string, members ...textMember) error {
	seen := 0
	err := d.object(func(name string) error {
		for _, m := range members {
			if m.name == name {
				seen++
				return d.text(m.dst)
			}
		}
		return d.errorf("unknown member %q of %s", name, what)
	})
	if err == nil && seen != len(members) {
		err = d.errorf("a member of %s is missing", what)
	}
	return err
}

func (d *decoder) time() error {
	var s string
	if err := d.text(&s); err != nil {
		return err
	}
	at, err := conf.ParseTime(s)
	if err != nil {
		return d.errorf("generated_at: %v", err)
	}
	d.content.GeneratedAt = at.Truncate(time.Microsecond) // the precision of Encode
	return nil
}

// payload reads _meta, which sorts before all services, then the documents.
func (d *decoder) payload() error {
	docs, meta := documents{d: d}, false
	err := d.object(func(name string) error {
		if meta {
			return docs.member(name)
		}
		if meta = true; name != metaKey {
			return d.errorf("payload does not start with %s", metaKey)
		}
		return d.meta()
	})
	if err != nil {
		return err
	}
	if !meta {
		return d.errorf("payload has no %s", metaKey)
	}
	return docs.end()
}

// documents reads the documents of the records that d has read.
type documents struct {
	d    *decoder
	next int // first record whose document may follow
}

func (m *documents) member(service string) error {
	d := m.d
	if err := m.skip(service); err != nil {
		return err
	}
	if m.next == len(d.content.Records) || !inPayload(d.content.Records[m.next]) {
		return d.errorf("document of unknown service %q", service)
	}
	r := d.content.Records[m.next]
	m.next++
	if err := d.raw(&r.Config, '{'); err != nil {
		return err
	}
	return checkDocument(r)
}

// end checks that no document is missing.
func (m *documents) end() error { return m.skip("") }

func (m *documents) skip(until string) error {
	records := m.d.content.Records
	for ; m.next < len(records) && records[m.next].Service != until; m.next++ {
		if r := records[m.next]; inPayload(r) {
			return fmt.Errorf("service %q has no document", r.Service)
		}
	}
	return nil
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
			return d.number(&d.content.Index)
		case "past":
			seen--
			return d.array(func() error {
				d.content.PastEpochs = append(d.content.PastEpochs, "")
				return d.text(&d.content.PastEpochs[len(d.content.PastEpochs)-1])
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
	if err := d.recordInto(r, false); err != nil {
		return err
	}
	d.content.Records = append(d.content.Records, r)
	if r.Deleted {
		r.Config = json.RawMessage(emptyDocument)
		return checkDocument(r)
	}
	return nil
}

// recordInto reads the members of a record. One that is stable and not served has its
// document, and nothing staged.
func (d *decoder) recordInto(r *conf.Record, stable bool) error {
	version, service := false, r.Service
	err := d.object(func(name string) error {
		switch name {
		case "checksum":
			return d.text(&r.Checksum)
		case "config":
			if !stable {
				break
			}
			return d.raw(&r.Config, '{')
		case "config_epoch":
			return d.text(&r.Epoch)
		case "deleted":
			if r.Deleted = d.Literal("true"); !r.Deleted {
				return d.errorf("expected true")
			}
			return nil
		case "index":
			return d.number(&r.Index)
		case "issued_at":
			return d.text(&r.IssuedAt)
		case "key_id":
			return d.text(&r.KeyID)
		case "schema":
			return d.raw(&r.Schema, 0)
		case "sealed_secrets":
			return d.sealedSecrets(r)
		case "secrets":
			if stable {
				break
			}
			return d.envSecrets(service)
		case "signature":
			return d.text(&r.Signature)
		case "staged":
			if stable {
				break
			}
			return d.staged(service)
		case "updated_at":
			return d.text(&r.UpdatedAt)
		case "updated_by":
			return d.text(&r.UpdatedBy)
		case "values":
			return d.raw(&r.Values, '{')
		case "version":
			version = true
			return d.number(&r.Version)
		case "version_signature":
			return d.text(&r.VersionSignature)
		}
		return d.errorf("unknown member %q of service %q", name, service)
	})
	if err != nil {
		return err
	}
	if !version || (r.Deleted && r.Version == 0) {
		return d.errorf("service %q has no version", service)
	}
	return nil
}

func (d *decoder) sealedSecrets(r *conf.Record) error {
	return d.array(func() error {
		var s conf.SealedSecret
		err := d.texts("a sealed secret", textMember{"created_at", &s.CreatedAt}, textMember{"encrypted_value", &s.Value},
			textMember{"key", &s.Key}, textMember{"key_id", &s.KeyID}, textMember{"updated_at", &s.UpdatedAt})
		r.Secrets = append(r.Secrets, s)
		return err
	})
}

func (d *decoder) envSecrets(service string) error {
	var fields []conf.Field
	err := d.array(func() error {
		source := conf.SourceEnv
		f := conf.Field{Service: service, IsSecret: true, SecretSource: &source}
		err := d.texts("a secret", textMember{"env", &f.Env}, textMember{"key", &f.Key}, textMember{"type", (*string)(&f.Type)})
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
