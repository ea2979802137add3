package lkg

import (
	"encoding/json"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Staged is what the file has of a service beside the record that the agent serves. A
// service without it is served as it is stable.
type Staged struct {
	Stable *conf.Record // what is stable, when that is another record; else nil

	// Revert is the signed version that takes the place of the served one when the service
	// refuses that; nil: it cannot. Candidate says that the served one is a candidate, and
	// so that this agent is a target. The rest is of the rollout.
	Revert    *conf.SignedVersion
	Candidate bool
	Rollout   string // id
	At, By    string // when and by whom it was started
}

// setStaged keeps what is staged of a service; nil means nothing.
func (c *Content) setStaged(service string, s *Staged) {
	if s == nil {
		delete(c.Staged, service)
		return
	}
	if c.Staged == nil {
		c.Staged = map[string]*Staged{}
	}
	c.Staged[service] = s
}

// appendStaged appends the members in the order of their names, without empty ones.
func appendStaged(b []byte, s *Staged, epoch string) []byte {
	b = append(b, '{')
	member := func(name string) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	text := func(name, value string) {
		if value != "" {
			member(name)
			b = seal.AppendString(b, value)
		}
	}
	text("at", s.At)
	text("by", s.By)
	if s.Candidate {
		member("candidate")
		b = append(b, "true"...)
	}
	if s.Revert != nil {
		member("revert")
		b = appendSigned(b, s.Revert)
	}
	text("rollout", s.Rollout)
	if s.Stable != nil {
		member("stable")
		b = appendMeta(b, s.Stable, metaOf{epoch: epoch, config: !s.Stable.Deleted})
	}
	return append(b, '}')
}

func appendSigned(b []byte, v *conf.SignedVersion) []byte {
	b = seal.AppendString(append(b, `{"checksum":`...), v.Checksum)
	b = append(append(b, `,"config":`...), v.Config...)
	b = seal.AppendString(append(b, `,"issued_at":`...), v.IssuedAt)
	b = seal.AppendString(append(b, `,"key_id":`...), v.KeyID)
	b = seal.AppendString(append(b, `,"signature":`...), v.Signature)
	b = append(append(b, `,"values":`...), v.Values...)
	b = strconv.AppendUint(append(b, `,"version":`...), v.Version, 10)
	if v.VersionSignature != "" {
		b = seal.AppendString(append(b, `,"version_signature":`...), v.VersionSignature)
	}
	return append(b, '}')
}

// staged reads what is staged of a service.
func (d *decoder) staged(service string) error {
	s := &Staged{}
	d.content.setStaged(service, s)
	return d.object(func(name string) error {
		switch name {
		case "at":
			return d.text(&s.At)
		case "by":
			return d.text(&s.By)
		case "candidate":
			if s.Candidate = d.Literal("true"); !s.Candidate {
				return d.errorf("expected true")
			}
			return nil
		case "revert":
			s.Revert = &conf.SignedVersion{}
			return d.signed(service, s.Revert)
		case "rollout":
			return d.text(&s.Rollout)
		case "stable":
			return d.stable(service, s)
		}
		return d.errorf("unknown member %q of what is staged of %q", name, service)
	})
}

func (d *decoder) stable(service string, s *Staged) error {
	r := &conf.Record{Service: service, Epoch: d.content.Epoch}
	s.Stable = r
	if err := d.recordInto(r, true); err != nil {
		return err
	}
	if r.Deleted {
		r.Config = json.RawMessage(emptyDocument)
	}
	if !inPayload(r) && !r.Deleted && r.Config == nil {
		return nil // it was never configured
	}
	return checkDocument(r)
}

func (d *decoder) signed(service string, v *conf.SignedVersion) error {
	err := d.object(func(name string) error {
		switch name {
		case "checksum":
			return d.text(&v.Checksum)
		case "config":
			return d.raw(&v.Config, '{')
		case "issued_at":
			return d.text(&v.IssuedAt)
		case "key_id":
			return d.text(&v.KeyID)
		case "signature":
			return d.text(&v.Signature)
		case "values":
			return d.raw(&v.Values, '{')
		case "version":
			return d.number(&v.Version)
		case "version_signature":
			return d.text(&v.VersionSignature)
		}
		return d.errorf("unknown member %q of the revert of %q", name, service)
	})
	if err == nil && (v.Version == 0 || v.Config == nil || v.Values == nil) {
		err = d.errorf("a member of the revert of %q is missing", service)
	}
	if err == nil {
		err = checkDocument(&conf.Record{Service: service, Config: v.Config, Checksum: v.Checksum})
	}
	return err
}
