package testenv

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// State is what an agent serves of all services.
type State map[string]Document

// State reads all services' documents from the local API.
func (a *Agent) State() State {
	a.t.Helper()
	s := State{}
	for _, name := range a.Services() {
		s[name] = a.Document(name)
	}
	if len(s) < 3 {
		a.t.Fatalf("the agent has only %d services", len(s))
	}
	return s
}

// Names are the services of s, sorted.
func (s State) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Versions are the version of each service, for messages and comparisons.
func (s State) Versions() map[string]uint64 {
	out := map[string]uint64{}
	for name, d := range s {
		out[name] = d.Metadata.Version
	}
	return out
}

// Differs compares a document with the one of s: its values and, unless
// valuesOnly, all that is signed about them.
func (s State) Differs(d Document, valuesOnly bool) error {
	want, ok := s[d.Service]
	if !ok {
		return fmt.Errorf("nobody made a service %q", d.Service)
	}
	if string(d.Config) != string(want.Config) {
		return fmt.Errorf("%s from %s has %s, want %s", d.Service, d.Source, d.Config, want.Config)
	}
	if !valuesOnly && !reflect.DeepEqual(d.Metadata, want.Metadata) {
		return fmt.Errorf("%s from %s has metadata %s, want %s", d.Service, d.Source, jsonText(d.Metadata), jsonText(want.Metadata))
	}
	return nil
}

// Require fails the test unless the agent serves exactly s, from source.
func (s State) Require(t testing.TB, a *Agent, source string, valuesOnly bool) {
	t.Helper()
	if source == "replica" { // which comes a moment after an agent works normally
		a.AwaitSource(s.Names()[0], source)
	}
	for _, name := range s.Names() {
		d := a.AwaitServing(name)
		if d.Source != source {
			t.Fatalf("%s is served from %q, want %q", name, d.Source, source)
		}
		if err := s.Differs(d, valuesOnly); err != nil {
			t.Fatal(err)
		}
	}
}

// RequireHealing fails the test unless the agent serves exactly s: from the
// last-known-good file, and from the replica once that is there, never back.
func (s State) RequireHealing(t testing.TB, a *Agent) {
	t.Helper()
	healed := false
	for _, name := range s.Names() {
		d := a.AwaitServing(name)
		switch {
		case d.Source == "replica":
			healed = true
		case d.Source != "lkg" || healed:
			t.Fatalf("%s is served from %q (the replica was there: %v)", name, d.Source, healed)
		}
		if err := s.Differs(d, false); err != nil {
			t.Fatal(err)
		}
	}
}

// AwaitSource waits until the agent serves service from source.
func (a *Agent) AwaitSource(service, source string) {
	a.t.Helper()
	Await(a.t, service+" to be served from "+source, func() bool {
		r := a.Local("/v1/config/" + service)
		return r.Status == http.StatusOK && r.Header.Get("X-Config-Source") == source
	})
}

// EpochFile reads health+epoch.json.
func (a *Agent) EpochFile() (e conf.EpochFile) {
	a.t.Helper()
	data, err := os.ReadFile(a.Path("health+epoch.json"))
	if err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		a.t.Fatal(err)
	}
	return e
}

// CopyDir replaces the directory dst by a copy of src. Sockets are left out.
func CopyDir(t testing.TB, src, dst string) {
	t.Helper()
	if err := os.RemoveAll(dst); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(src, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, info.Mode().Perm())
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}
