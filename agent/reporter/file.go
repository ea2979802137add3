package reporter

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// saved is the file of what services have said: the service says it once for each version,
// and the agent may restart in between.
type saved struct {
	Services map[string]savedService `json:"services"`
}

type savedService struct {
	Since string   `json:"since"`
	Word  conf.Ack `json:"word"` // the worst; its version and epoch tell what it is of
}

// maxFile bounds the file.
const maxFile = 2 << 20

// load reads the file. One that is damaged is not used: services say it again with the next
// version.
func (r *Reporter) load() {
	if r.o.Path == "" {
		return
	}
	data, err := os.ReadFile(r.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var in saved
	if err == nil {
		err = conf.DecodeStrict(data, maxFile, &in)
	}
	if err != nil {
		r.o.Logger.Warn("what services have acknowledged before is not readable: it is written again", "path", r.o.Path, "err", err)
		return
	}
	for name, s := range in.Services {
		if conf.CheckService(name) != nil || len(r.services) >= maxTracked {
			continue
		}
		t := r.services[name]
		if t == nil {
			t = newTracked(name, false)
			r.services[name] = t
		}
		t.acknowledges = true
		if s.Word.Check() == nil {
			t.epoch, t.version = s.Word.Epoch, s.Word.Version
			t.workers = map[string]conf.Ack{s.Word.Worker: s.Word}
			since, err := conf.ParseTime(s.Since)
			if err != nil {
				since = time.Time{}
			}
			t.settle(since)
		}
	}
}

// flush writes the file when it is outdated.
func (r *Reporter) flush() {
	if r.o.Path == "" {
		return
	}
	r.save.Lock()
	defer r.save.Unlock()
	r.mu.Lock()
	if !r.unsaved {
		r.mu.Unlock()
		return
	}
	r.unsaved = false
	out := saved{Services: map[string]savedService{}}
	for name, t := range r.services {
		if t.acknowledges {
			out.Services[name] = savedService{Since: conf.FormatTime(t.since), Word: t.word}
		}
	}
	r.mu.Unlock()
	data, err := json.Marshal(out)
	if err == nil {
		err = durable.WriteFile(r.o.Path, data, 0o600)
	}
	if err != nil {
		r.o.Logger.Warn("what services have acknowledged was not written: it is written with the next one", "path", r.o.Path, "err", err)
	}
}
