package command

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// Nearly every entry is an Edit that only changes documents, and each member encodes
// or decodes it. encoding/json takes longer for that than the store takes to apply
// it. This file writes and reads the same bytes, and leaves all other commands, and
// texts with escapes, to encoding/json.

// These types make the compiler find a member that is missing here. A new member
// needs a place in its shape, in the writer and in the reader, or makes
// hasOnlyFastFields return false.
type (
	editShape struct {
		ID, Epoch, At, By, Reason, Action string
		Updates                           []Update
		Secrets                           []Secret
		Schemas                           []Schema
		Profiles                          []Profile
		ProfileDeletes                    []string
		Audit                             []conf.Access
		Replace                           bool
	}
	updateShape struct {
		Service                              string
		Prev, Version                        uint64
		Values, Config                       json.RawMessage
		Checksum, IssuedAt, Signature, KeyID string
		Deleted                              bool
		UpdatedAt, UpdatedBy                 string
		VersionSignature                     string
	}
	accessShape struct {
		ID                           int64
		UserID, Action, Service, Key string
		Success                      bool
		Reason, Timestamp            string
	}
)

var (
	_ = editShape(Edit{})
	_ = updateShape(Update{})
	_ = accessShape(conf.Access{})
)

// hasOnlyFastFields reports whether fastEncode writes all fields of e.
func hasOnlyFastFields(e *Edit) bool {
	return len(e.Secrets) == 0 && len(e.Schemas) == 0 && len(e.Profiles) == 0 && len(e.ProfileDeletes) == 0 && !e.Replace
}

// fastEncode encodes e as marshal does; ok is false when only marshal can.
func fastEncode(e *Edit) (data []byte, ok bool) {
	if !hasOnlyFastFields(e) {
		return nil, false
	}
	size := 256 + 200*len(e.Audit)
	for i := range e.Updates {
		size += 512 + len(e.Updates[i].Values) + len(e.Updates[i].Config)
	}
	w := writer{b: append(make([]byte, 0, size), Version, byte(KindEdit), '{'), ok: true}
	w.optional("id", e.ID)
	w.text("epoch", e.Epoch)
	w.text("at", e.At)
	w.optional("by", e.By)
	w.optional("reason", e.Reason)
	w.text("action", e.Action)
	if len(e.Updates) > 0 {
		w.open("updates")
		for i := range e.Updates {
			w.update(&e.Updates[i])
		}
		w.b = append(w.b, ']')
	}
	if len(e.Audit) > 0 {
		w.open("audit")
		for i := range e.Audit {
			w.access(&e.Audit[i])
		}
		w.b = append(w.b, ']')
	}
	return append(w.b, '}'), w.ok
}

// writer writes members of objects.
type writer struct {
	b  []byte
	ok bool // encoding/json would write the same
}

// sep writes a comma where one belongs.
func (w *writer) sep() {
	if c := w.b[len(w.b)-1]; c != '{' && c != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) name(name string) {
	w.sep()
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *writer) open(name string) {
	w.name(name)
	w.b = append(w.b, '[')
}

func (w *writer) text(name, s string) {
	w.name(name)
	w.ok = w.ok && plainText(s)
	w.b = append(append(append(w.b, '"'), s...), '"')
}

func (w *writer) optional(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *writer) number(name string, n uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *writer) document(name string, m json.RawMessage) {
	if len(m) == 0 {
		return
	}
	w.name(name)
	w.ok = w.ok && compact(m)
	w.b = append(w.b, m...)
}

func (w *writer) update(u *Update) {
	w.sep()
	w.b = append(w.b, '{')
	w.text("service", u.Service)
	w.number("prev", u.Prev)
	w.number("version", u.Version)
	w.document("values", u.Values)
	if len(u.Config) > 0 && bytes.Equal(u.Config, u.Values) { // no defaults: it is compact too
		w.name("config")
		w.b = append(w.b, u.Config...)
	} else {
		w.document("config", u.Config)
	}
	w.text("checksum", u.Checksum)
	w.text("issued_at", u.IssuedAt)
	w.text("signature", u.Signature)
	w.text("key_id", u.KeyID)
	if u.Deleted {
		w.name("deleted")
		w.b = append(w.b, "true"...)
	}
	w.optional("updated_at", u.UpdatedAt)
	w.optional("updated_by", u.UpdatedBy)
	w.optional("version_signature", u.VersionSignature)
	w.b = append(w.b, '}')
}

func (w *writer) access(a *conf.Access) {
	w.ok = w.ok && a.ID == 0
	w.sep()
	w.b = append(w.b, '{')
	w.text("user_id", a.UserID)
	w.text("action", a.Action)
	w.text("service", a.Service)
	w.text("key", a.Key)
	w.name("success")
	w.b = strconv.AppendBool(w.b, a.Success)
	w.text("reason", a.Reason)
	w.text("timestamp", a.Timestamp)
	w.b = append(w.b, '}')
}

// plainText reports whether s needs no escapes in JSON.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// maxNesting is the depth of nesting from which on documents go through encoding/json.
const maxNesting = 64

// compact reports whether m is JSON without white space and not nested deeply.
func compact(m []byte) bool {
	s := jsonscan.Scanner{Data: m, Compact: true}
	return s.Value(maxNesting) && s.End()
}

// fastDecode decodes the bytes of fastEncode, and no others.
func fastDecode(data []byte) (*Edit, bool) {
	r := reader{jsonscan.Scanner{Data: data, Pos: 2, Compact: true}}
	e := new(Edit)
	ok := r.Accept('{') && r.optional("id", &e.ID) && r.text("epoch", &e.Epoch) && r.text("at", &e.At) &&
		r.optional("by", &e.By) && r.optional("reason", &e.Reason) && r.text("action", &e.Action)
	if ok && r.name("updates") {
		for ok = r.Accept('['); ok; {
			var u Update
			ok = r.update(&u)
			e.Updates = append(e.Updates, u)
			if !r.Accept(',') {
				break
			}
		}
		ok = ok && r.Accept(']')
	}
	if ok && r.name("audit") {
		for ok = r.Accept('['); ok; {
			var a conf.Access
			ok = r.access(&a)
			e.Audit = append(e.Audit, a)
			if !r.Accept(',') {
				break
			}
		}
		ok = ok && r.Accept(']')
	}
	return e, ok && r.Accept('}') && r.End()
}

// reader reads members of objects, in the one order that they are written in.
type reader struct{ jsonscan.Scanner }

// name passes the name of a member, with the comma before it.
func (r *reader) name(name string) bool {
	i := r.Pos
	if i > 0 && i < len(r.Data) && r.Data[i-1] != '{' {
		if r.Data[i] != ',' {
			return false
		}
		i++
	}
	end := i + len(name) + 3
	if end > len(r.Data) || r.Data[i] != '"' || string(r.Data[i+1:end-2]) != name || r.Data[end-2] != '"' || r.Data[end-1] != ':' {
		return false
	}
	r.Pos = end
	return true
}

func (r *reader) text(name string, s *string) bool {
	if !r.name(name) {
		return false
	}
	start := r.Pos + 1
	if r.String() != jsonscan.ASCII {
		return false
	}
	*s = string(r.Data[start : r.Pos-1])
	return true
}

// optional reads a member that is left out when it is empty.
func (r *reader) optional(name string, s *string) bool {
	was := r.Pos
	if !r.name(name) {
		return true
	}
	r.Pos = was
	return r.text(name, s) && *s != ""
}

func (r *reader) number(name string, n *uint64) (ok bool) {
	if r.name(name) {
		*n, ok = r.Uint()
	}
	return ok
}

func (r *reader) document(name string, m *json.RawMessage) bool {
	if !r.name(name) {
		return true
	}
	start := r.Pos
	if !r.Value(maxNesting) {
		return false
	}
	*m = bytes.Clone(r.Data[start:r.Pos]) // raft owns the bytes of an entry
	return true
}

// config reads the document of u, which is often its values: then both are the same bytes.
func (r *reader) config(u *Update) bool {
	was := r.Pos
	if len(u.Values) > 0 && u.Values[0] == '{' && r.name("config") && bytes.HasPrefix(r.Data[r.Pos:], u.Values) {
		r.Pos += len(u.Values) // an object ends where its last brace is
		u.Config = u.Values
		return true
	}
	r.Pos = was
	return r.document("config", &u.Config)
}

func (r *reader) update(u *Update) bool {
	ok := r.Accept('{') && r.text("service", &u.Service) && r.number("prev", &u.Prev) && r.number("version", &u.Version) &&
		r.document("values", &u.Values) && r.config(u) && r.text("checksum", &u.Checksum) &&
		r.text("issued_at", &u.IssuedAt) && r.text("signature", &u.Signature) && r.text("key_id", &u.KeyID)
	if ok && r.name("deleted") {
		u.Deleted, ok = true, r.Literal("true")
	}
	return ok && r.optional("updated_at", &u.UpdatedAt) && r.optional("updated_by", &u.UpdatedBy) &&
		r.optional("version_signature", &u.VersionSignature) && r.Accept('}')
}

func (r *reader) access(a *conf.Access) bool {
	ok := r.Accept('{') && r.text("user_id", &a.UserID) && r.text("action", &a.Action) && r.text("service", &a.Service) &&
		r.text("key", &a.Key) && r.name("success")
	if ok {
		if a.Success = r.Literal("true"); !a.Success {
			ok = r.Literal("false")
		}
	}
	return ok && r.text("reason", &a.Reason) && r.text("timestamp", &a.Timestamp) && r.Accept('}')
}
