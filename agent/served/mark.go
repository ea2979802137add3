package served

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Causes of a verdict.
const (
	CauseAck    = "ack"    // the service said so
	CauseHealth = "health" // it became unhealthy
	CauseExit   = "exit"   // it ended, under holdfast exec
)

// Verdict is why a service refuses what is served.
type Verdict struct {
	Reason  string           `json:"reason"`
	Details []conf.AckDetail `json:"details,omitempty"`
	Worker  string           `json:"worker,omitempty"`
	Cause   string           `json:"cause"`
	At      string           `json:"at"` // FormatTime's form; Refuse sets it
}

// Mark is a refusal, as it is on the disk. It is complete in itself, and immutable.
type Mark struct {
	Service string             `json:"service"`
	Epoch   string             `json:"config_epoch"`
	Rollout string             `json:"rollout"`        // its id
	Refused uint64             `json:"refused"`        // the version that was refused
	Content string             `json:"content_digest"` // of what was refused: document, sealed secrets, schema
	Revert  conf.SignedVersion `json:"revert"`
	At      string             `json:"revert_updated_at"`
	By      string             `json:"revert_updated_by"`
	Verdict Verdict            `json:"verdict"`
}

// joined says since when this agent is an instance of which services.
type joined struct {
	Epoch    string                   `json:"config_epoch"`
	Services map[string]joinedService `json:"services"`
}

type joinedService struct {
	Index        uint64 `json:"index"` // in the log of Epoch; 0: not known yet
	Acknowledged bool   `json:"acknowledged,omitempty"`
}

func (j joined) clone() joined {
	out := joined{Epoch: j.Epoch, Services: map[string]joinedService{}}
	maps.Copy(out.Services, j.Services)
	return out
}

// keep drops services that this agent was an instance of by its settings and is no longer.
func (j *joined) keep(services []string) {
	maps.DeleteFunc(j.Services, func(name string, s joinedService) bool { return !s.Acknowledged && !slices.Contains(services, name) })
}

// in returns the index at which the agent became an instance of a service, 0 when it is not
// known in an epoch.
func (j joined) in(epoch, service string) uint64 {
	if j.Epoch != epoch {
		return 0
	}
	return j.Services[service].Index
}

// since returns j with an index for all that has none in an epoch.
func (j joined) since(epoch string, index uint64, services []string) (next joined, news bool) {
	next = j.clone()
	if next.Epoch != epoch {
		next.Epoch, news = epoch, true
		for name, s := range next.Services {
			s.Index = 0
			next.Services[name] = s
		}
	}
	for _, name := range services {
		if _, ok := next.Services[name]; !ok {
			next.Services[name] = joinedService{}
		}
	}
	for name, s := range next.Services {
		if s.Index == 0 {
			s.Index, news = index, true
			next.Services[name] = s
		}
	}
	return next, news
}

// maxMark bounds the size of a file: a mark has two documents.
const maxMark = 4 * conf.MaxDocument

// joinedName is the file of joined. No service can have that name.
const joinedName = "_joined"

// markFiles are the marks of one directory, one file for each service.
type markFiles struct {
	dir  string
	keys func() [][]byte // that verify
	log  *slog.Logger

	signer []byte // nil: the first of keys
}

func (f *markFiles) path(name string) string { return filepath.Join(f.dir, name+".json") }

// open makes the directory, and reports whether it did.
func (f *markFiles) open() (made bool) {
	if _, err := os.Stat(f.dir); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err := f.makeDir(); err != nil {
		f.log.Warn("the directory of the marks was not made: it is tried again when there is one", "path", f.dir, "err", err)
	}
	return true
}

func (f *markFiles) makeDir() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(f.dir))
}

// The file has one member beside its HMAC, so that a mark is never taken for another file
// of the same key.
const (
	markHead = `{"algorithm":"hmac-sha256","`
	markTail = `,"signature":"`
	macSize  = 64
)

func (f *markFiles) write(m *Mark) error { return f.writeFile(m.Service, "mark", m) }

func (f *markFiles) writeJoined(j joined) error { return f.writeFile(joinedName, "joined", j) }

func (f *markFiles) writeFile(name, member string, v any) error {
	key := f.signer
	if keys := f.keys(); len(key) == 0 && len(keys) > 0 {
		key = keys[0]
	}
	if len(key) == 0 {
		return conf.Errorf(conf.CodeUsage, "no key for %s", f.path(name)).WithHint("set LKG_HMAC_KEY_BASE64")
	}
	var b bytes.Buffer
	b.WriteString(markHead + member + `":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a signed document keeps its bytes
	if err := enc.Encode(v); err != nil {
		return conf.Errorf(conf.CodeInternal, "%s: %w", f.path(name), err)
	}
	body := append(bytes.TrimSuffix(b.Bytes(), []byte("\n")), '}')
	mac := seal.MAC(key, body)
	file := append(body[:len(body)-1:len(body)-1], markTail+mac+"\"}\n"...)
	if err := f.makeDir(); err != nil {
		return writeError(f.path(name), err)
	}
	if err := durable.WriteFile(f.path(name), file, 0o600); err != nil {
		return writeError(f.path(name), err)
	}
	return nil
}

func writeError(path string, err error) error {
	return conf.Errorf(conf.CodeStorageFull, "cannot write %s: %w", path, err).WithHint("check the disk, and that the agent's user owns the directory")
}

// remove removes a mark, durably.
func (f *markFiles) remove(service string) error {
	if err := os.Remove(f.path(service)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(f.dir)
}

// readFile reads a file and verifies it.
func (f *markFiles) readFile(name, member string, v any) error {
	file, err := os.Open(f.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxMark+1))
	if err != nil {
		return err
	}
	if len(data) > maxMark {
		return conf.Errorf(conf.CodeTooLarge, "it is larger than %d bytes", maxMark)
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	cut := len(data) - len(markTail) - macSize - len(`"}`)
	if cut < 0 || string(data[cut:cut+len(markTail)]) != markTail || string(data[len(data)-2:]) != `"}` {
		return conf.Errorf(conf.CodeCorrupt, "it has no HMAC")
	}
	mac := string(data[cut+len(markTail) : len(data)-2])
	body := append(bytes.Clone(data[:cut]), '}')
	if !slices.ContainsFunc(f.keys(), func(key []byte) bool { return len(key) > 0 && seal.CheckMAC(key, body, mac) }) {
		return conf.Errorf(conf.CodeCorrupt, "its HMAC does not match")
	}
	head := markHead + member + `":`
	if !bytes.HasPrefix(body, []byte(head)) {
		return conf.Errorf(conf.CodeCorrupt, "it is no %s", member)
	}
	return json.Unmarshal(body[len(head):len(body)-1], v)
}

// Marks are the marks of an agent, by service.
type Marks map[string]*Mark

// LoadMarks reads the marks of a directory, and nothing else: one that is damaged is left
// out and left where it is.
func LoadMarks(dir string, keys [][]byte, log *slog.Logger) Marks {
	f := &markFiles{dir: dir, keys: func() [][]byte { return keys }, log: log}
	return f.read(func(name string, err error) {
		alarm.MarkDamaged.Report(log, "path", f.path(name), "err", err)
	})
}

// load reads the marks, and sets aside those that are damaged.
func (f *markFiles) load() Marks { return f.read(f.setAside) }

func (f *markFiles) read(damaged func(name string, err error)) Marks {
	out := Marks{}
	files, err := os.ReadDir(f.dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			alarm.MarkDamaged.Report(f.log, "path", f.dir, "err", err)
		}
		return out
	}
	for _, e := range files {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || conf.CheckService(name) != nil {
			continue
		}
		m := &Mark{}
		err := f.readFile(name, "mark", m)
		if err == nil {
			err = m.check(name)
		}
		if err != nil {
			damaged(name, err)
			continue
		}
		out[name] = m
	}
	return out
}

func (m *Mark) check(service string) error {
	r := &m.Revert
	if m.Service != service || m.Epoch == "" || m.Refused == 0 || r.Version <= m.Refused || r.Values == nil || seal.Checksum(r.Config) != r.Checksum {
		return conf.Errorf(conf.CodeCorrupt, "it is no mark of %s", service)
	}
	return nil
}

func (f *markFiles) setAside(name string, err error) {
	aside := f.path(name) + ".damaged"
	if rerr := os.Rename(f.path(name), aside); rerr != nil {
		aside = f.path(name)
	}
	alarm.MarkDamaged.Report(f.log, "path", aside, "err", err)
}

func (f *markFiles) loadJoined() joined {
	none := joined{Services: map[string]joinedService{}}
	var j joined
	switch err := f.readFile(joinedName, "joined", &j); {
	case errors.Is(err, fs.ErrNotExist):
		return none
	case err != nil:
		f.setAside(joinedName, err)
		return none
	}
	if j.Services == nil {
		j.Services = none.Services
	}
	return j
}
