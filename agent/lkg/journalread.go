package lkg

import (
	"cmp"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	headHead   = `{"base":`
	anchorHead = `{"anchor":`
)

// Loaded is what Load found of the journal, for the Writer that goes on behind it.
type Loaded struct {
	Err error // why not all of the journal counts, nil when it does

	path      string // of the journal
	base      string // signature of the file
	baseIndex uint64
	baseSize  int64
	key       []byte // of the journal
	good      int64  // bytes of the journal that count; 0: none do
	mac       []byte // of the last record that counts
	marks     []mark
	foreign   bool // the journal belongs to another base
}

// Sync makes durable what was read of the journal: the process that wrote it may have been
// killed before it did.
func (l *Loaded) Sync() error {
	if l.good == 0 {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close(), durable.SyncDir(filepath.Dir(l.path)))
	}
	if err != nil {
		return writeError(l.path, err)
	}
	return nil
}

// encodeChange is the payload of a record: the newest state of the services that a
// change touches, in the form of the file.
func encodeChange(epoch string, index uint64, recs []*conf.Record, staged map[string]*Staged, at time.Time) ([]byte, error) {
	recs = newest(recs)
	recs, err := sortRecords(recs)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 4<<10), `{"at":`...)
	b = seal.AppendString(b, conf.FormatTime(at))
	b = seal.AppendString(append(b, `,"epoch":`...), epoch)
	b = strconv.AppendUint(append(b, `,"index":`...), index, 10)
	b = append(b, `,"meta":{`...)
	for i, r := range recs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(seal.AppendString(b, r.Service), ':')
		b = appendMeta(b, r, metaOf{epoch: epoch, staged: staged[r.Service]})
	}
	b = append(b, `},"payload":{`...)
	comma := ""
	for _, r := range recs {
		if inPayload(r) {
			b = append(seal.AppendString(append(b, comma...), r.Service), ':')
			b, comma = append(b, r.Config...), ","
		}
	}
	return append(b, "}}"...), nil
}

// newest keeps the last record of each service: a batch may have several of one.
func newest(recs []*conf.Record) []*conf.Record {
	if len(recs) < 2 {
		return recs
	}
	last := make(map[string]int, len(recs))
	for i, r := range recs {
		last[r.Service] = i
	}
	if len(last) == len(recs) {
		return recs
	}
	out := make([]*conf.Record, 0, len(last))
	for i, r := range recs {
		if last[r.Service] == i {
			out = append(out, r)
		}
	}
	return out
}

// decodeChange decodes a payload whose HMAC is right.
func decodeChange(payload []byte) (*Content, error) {
	d := decoder{jsonscan.Scanner{Data: payload}, &Content{}}
	seen := 0
	err := d.object(func(name string) error {
		seen++
		switch name {
		case "at":
			return d.time()
		case "epoch":
			return d.text(&d.content.Epoch)
		case "index":
			return d.number(&d.content.Index)
		case "meta":
			return d.object(d.record)
		case "payload":
			docs := documents{d: &d}
			return cmp.Or(d.object(docs.member), docs.end())
		}
		return d.errorf("unknown member %q", name)
	})
	if err == nil && (seen != 5 || !d.End()) {
		err = errors.New("not a change")
	}
	return d.content, err
}

// cutFrame takes the first record off data. It checks the frame only.
func cutFrame(data []byte) (payload []byte, size int, ok bool) {
	if len(data) < frameSize {
		return nil, 0, false
	}
	n, err := strconv.ParseUint(string(data[:lengthDigits]), 16, 32)
	if err != nil || n > uint64(len(data)-frameSize) {
		return nil, 0, false
	}
	end := lengthDigits + 1 + int(n)
	size = end + 1 + macDigits + 1
	if data[lengthDigits] != ' ' || data[end] != ' ' || data[size-1] != '\n' {
		return nil, 0, false
	}
	return data[lengthDigits+1 : end : end], size, true
}

// cutRecord takes the first record off data and verifies it: it must follow the record
// whose HMAC is prev, nil for the first of a journal. sum is its own HMAC, nil when it
// does not verify.
func cutRecord(data, key, prev []byte) (payload []byte, size int, sum []byte) {
	payload, size, ok := cutFrame(data)
	if !ok {
		return nil, 0, nil
	}
	sum = chain(key, prev, payload)
	if !hmac.Equal(hex.AppendEncode(nil, sum), data[size-1-macDigits:size-1]) {
		return nil, 0, nil
	}
	return payload, size, sum
}

// names reads {"<member>":"<signature>" and returns the signature.
func names(payload []byte, head string) (string, bool) {
	rest, ok := strings.CutPrefix(string(payload[:min(len(payload), 256)]), head+`"`)
	if !ok {
		return "", false
	}
	signature, _, ok := strings.Cut(rest, `"`)
	return signature, ok
}

// applyJournal adds the changes of the journal data to c, the content of the base.
// Records count up to the first that does not verify. problem says why not all did.
func applyJournal(c *Content, l *Loaded, data []byte, keys [][]byte) (problem error) {
	payload, size, sum := []byte(nil), 0, []byte(nil)
	for _, l.key = range keys {
		if payload, size, sum = cutRecord(data, l.key, nil); sum != nil {
			break
		}
	}
	if sum == nil {
		l.foreign = len(data) > 0
		return conf.Errorf(conf.CodeCorrupt, "its first record is damaged, or of another key")
	}
	base, _ := names(payload, headHead)
	ours := base == l.base
	changes := []*Content(nil)
	good, mac, index := int64(size), sum, c.Index
	for rest := data[size:]; len(rest) > 0; rest = rest[size:] {
		payload, next, sum := cutRecord(rest, l.key, mac)
		if sum == nil {
			problem = conf.Errorf(conf.CodeCorrupt, "%d bytes behind its last good record are left out", len(rest))
			break
		}
		if signature, ok := names(payload, anchorHead); ok {
			ours = ours || signature == l.base
		} else {
			change, err := decodeChange(payload)
			if err != nil {
				problem = conf.Errorf(conf.CodeCorrupt, "a record of it cannot be read: %w", err)
				break
			}
			if change.Epoch == c.Epoch && change.Index >= c.Index {
				l.marks = append(l.marks, mark{index, change.Index, good, mac})
				index = max(index, change.Index)
				changes = append(changes, change)
			}
		}
		size, mac = next, sum
		good += int64(next)
	}
	if !ours {
		l.foreign, l.marks = true, nil
		return conf.Errorf(conf.CodeCorrupt, "it belongs to another file")
	}
	l.good, l.mac = good, mac
	merge(c, changes)
	return problem
}

// replaces reports whether a record of the journal takes the place of an earlier one. A
// change that this agent makes alone has the index of what it changes, which may be that
// of the base: then only a higher version tells that it is not part of the base.
func replaces(r, earlier *conf.Record, later bool) bool {
	if r.Epoch != earlier.Epoch {
		return later
	}
	return r.Version > earlier.Version || later && r.Version == earlier.Version
}

func merge(c *Content, changes []*Content) {
	if len(changes) == 0 {
		return
	}
	base, at := c.Index, make(map[string]int, len(c.Records))
	for i, r := range c.Records {
		at[r.Service] = i
	}
	for _, change := range changes {
		for _, r := range change.Records {
			i, known := at[r.Service]
			switch {
			case !known:
				at[r.Service] = len(c.Records)
				c.Records = append(c.Records, r)
			case !replaces(r, c.Records[i], change.Index > base):
				continue
			default:
				c.Records[i] = r
			}
			c.setStaged(r.Service, change.Staged[r.Service])
		}
		c.Index = max(c.Index, change.Index)
		if change.GeneratedAt.After(c.GeneratedAt) {
			c.GeneratedAt = change.GeneratedAt
		}
	}
	slices.SortFunc(c.Records, func(a, b *conf.Record) int { return cmp.Compare(a.Service, b.Service) })
}
