package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxHeads is for how many services the store remembers what their next change
// needs to know. Their records are those that readers have in memory anyway.
const maxHeads = 4096

// head is a service as the last change left it. It saves the next change from
// reading, and proving, what was written a moment ago. It is never modified.
type head struct {
	rec    *conf.Record      // nil when there is no such service
	digest [sha256.Size]byte // of the row of service_configs
	stored bool              // there is such a row
}

func readHead(ctx context.Context, q querier, dig *digester, service string) (*head, error) {
	schema, err := readRow(ctx, q, dig, tableSchemas, service)
	if err != nil {
		return nil, err
	}
	r, err := readRow(ctx, q, dig, tableConfigs, service)
	switch {
	case err != nil:
		return nil, err
	case r == nil && schema == nil:
		return &head{}, nil
	case r == nil:
		return &head{rec: bareRecord(schema)}, nil
	}
	rec, err := recordOf(r)
	if err != nil {
		return nil, err
	}
	if schema != nil {
		rec.Schema = json.RawMessage(schema.text(1))
	}
	rec.Secrets, err = secretsOf(ctx, q, dig, service)
	return &head{rec: rec, digest: r.digest, stored: true}, err
}

// head is the service as it is now, inside of the batch.
func (t *tx) head(service string) (*head, error) {
	h, ok := t.heads[service]
	if !ok {
		h = t.s.heads[service]
	}
	if h != nil {
		return h, nil
	}
	h, err := readHead(t.ctx, t.w, t.dig, service)
	if err == nil {
		t.setHead(service, h)
	}
	return h, err
}

// setHead notes what a change made of a service; nil: it is to be read again.
func (t *tx) setHead(service string, h *head) {
	was, had := t.heads[service]
	t.undo = append(t.undo, undoHead{service, was, had})
	t.heads[service] = h
}

// undoHead is what t.heads said before a change.
type undoHead struct {
	service string
	was     *head
	had     bool
}

// undoHeads takes back what the present entry noted.
func (t *tx) undoHeads() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		if u := t.undo[i]; u.had {
			t.heads[u.service] = u.was
		} else {
			delete(t.heads, u.service)
		}
	}
	t.undo = t.undo[:0]
}

// keepHeads takes over what a batch noted, after its COMMIT.
func (s *Store) keepHeads(heads map[string]*head) {
	if len(s.heads)+len(heads) > maxHeads {
		clear(s.heads)
	}
	if len(heads) > maxHeads {
		return
	}
	for service, h := range heads {
		if h == nil {
			delete(s.heads, service)
		} else {
			s.heads[service] = h
		}
	}
}

// ofService are the tables of which a head knows something.
func ofService(tab *table) bool {
	return tab == tableConfigs || tab == tableSchemas || tab == tableSecrets
}

// differing cuts two documents down to the members that are not in both with the
// same value. Documents are in canonical form; for any others, ok is false.
func differing(a, b json.RawMessage) (onlyA, onlyB json.RawMessage, ok bool) {
	as, okA := members(a)
	bs, okB := members(b)
	if !okA || !okB {
		return a, b, false
	}
	onlyA, onlyB = json.RawMessage{'{'}, json.RawMessage{'{'}
	for len(as) > 0 || len(bs) > 0 {
		order := 0
		switch {
		case len(as) == 0:
			order = 1
		case len(bs) == 0:
			order = -1
		default:
			order = bytes.Compare(as[0].name, bs[0].name)
		}
		if order == 0 && bytes.Equal(as[0].text, bs[0].text) {
			as, bs = as[1:], bs[1:]
			continue
		}
		if order <= 0 {
			onlyA = as[0].appendTo(onlyA)
			as = as[1:]
		}
		if order >= 0 {
			onlyB = bs[0].appendTo(onlyB)
			bs = bs[1:]
		}
	}
	return append(onlyA, '}'), append(onlyB, '}'), true
}

// member is a member of an object: its name in quotes, and all of its text.
type member struct{ name, text []byte }

func (m member) appendTo(doc []byte) []byte {
	if len(doc) > 1 {
		doc = append(doc, ',')
	}
	return append(doc, m.text...)
}

// members splits a compact JSON object whose names ascend. It takes the text to
// be JSON, as every document in the log is.
func members(doc []byte) (out []member, ok bool) {
	if len(doc) < 2 || doc[0] != '{' {
		return nil, false
	}
	if doc[1] == '}' {
		return nil, len(doc) == 2
	}
	out = make([]member, 0, 64)
	for i := 1; i < len(doc); {
		start := i
		end := stringEnd(doc, i)
		if end < 0 || end >= len(doc) || doc[end] != ':' {
			return nil, false
		}
		name := doc[start:end]
		if len(out) > 0 && bytes.Compare(out[len(out)-1].name, name) >= 0 {
			return nil, false
		}
		i = valueEnd(doc, end+1)
		if i < 0 {
			return nil, false
		}
		out = append(out, member{name, doc[start:i]})
		if doc[i] == '}' {
			return out, i == len(doc)-1
		}
		i++ // the comma
	}
	return nil, false
}

// stringEnd is the place behind the string that begins at i, or -1.
func stringEnd(doc []byte, i int) int {
	if i >= len(doc) || doc[i] != '"' {
		return -1
	}
	for i++; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd is the place of the comma or the brace behind the value that begins
// at i, or -1.
func valueEnd(doc []byte, i int) int {
	for depth := 0; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			if i = stringEnd(doc, i); i < 0 {
				return -1
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}
