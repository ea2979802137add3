package backend

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/rotation"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Health returns this agent's health, from memory.
func (b *Backend) Health() conf.Health {
	st := b.o.Status.Get()
	lkgErr := st.LKGErr
	file := b.o.LKG.Status()
	if file.Valid {
		lkgErr = nil
	} else if file.Err != nil {
		lkgErr = file.Err
	}
	h := conf.Health{
		DatabaseStatus: st.Database, OperationalMode: st.Mode, ConfigEpoch: b.o.View.Load().Epoch,
		LKGCacheValid: file.Valid, Event: &st.Event, SchemaVersion: b.sup.SchemaVersion(),
	}
	backup := b.o.Backups.Known()
	h.LitestreamStatus, h.LastBackup = backup.LitestreamStatus(), backup.LastBackup
	full, unopened := b.sup.DiskFull(), b.unopenedError()
	h.OK = st.Database == conf.DatabaseHealthy && st.Mode == conf.ModeNormal && h.LKGCacheValid && full == nil && unopened == nil
	for _, err := range []error{st.Err, lkgErr, full, unopened, b.o.Backups.ForeignErr()} {
		if err != nil && h.Err == nil {
			text := process.PublicText(err)
			h.Err = &text
		}
	}
	return h
}

// Report returns what this agent reports to other members. It works without a replica too.
func (b *Backend) Report() peers.Report {
	r := peers.Report{
		Version: b.o.Options.Version, Features: b.o.Cluster.Features().Own(), Health: b.Health(),
		Since: conf.FormatTime(b.o.Status.Get().Since), Services: map[string]uint64{},
		CertExpires: conf.FormatTime(b.o.Cluster.Port.Identity().Cert.NotAfter), Full: b.sup.DiskFull() != nil,
	}
	snap := b.o.View.Load()
	r.Epoch = snap.Epoch
	snap.Range(func(e *documents.Entry) bool {
		if e.Record.Exists() {
			r.Services[e.Record.Service] = e.Record.Version
		}
		return true
	})
	if rep := b.sup.Current(); rep != nil {
		r.LastTerm = rep.Node().Term()
		r.LastIndex, r.Applied = rep.Node().Indexes()
		r.Digest = rep.Store().Digest()
		if t := rep.Node().LastContact(); !t.IsZero() {
			r.LastContact = time.Since(t)
		}
	}
	return r
}

// maxNamed bounds how many secrets a text names.
const maxNamed = 10

// unopenedError names the secrets that are missing from what is served, nil for none. Its
// text has the hint, because health has no other place for it.
func (b *Backend) unopenedError() error {
	unopened := b.o.Secrets.Unopened(b.o.View.Load())
	if len(unopened) == 0 {
		return nil
	}
	var names []string
	noKey := false
	for _, u := range unopened {
		why := "damaged"
		if u.NoKey {
			noKey, why = true, "sealed under the master key "+u.KeyID+", which this agent does not hold"
		}
		if len(names) < maxNamed {
			names = append(names, fmt.Sprintf("%s of %s (%s)", u.Key, u.Service, why))
		}
	}
	if more := len(unopened) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	text, hint := "", "set them again: holdfast secret set"
	if noKey {
		hint = "start a server that holds the key, see: holdfast keys status; or set them again: holdfast secret set"
		cause := b.o.Keys.Err(conf.KeyMaster)
		main, _ := b.o.Keys.Set().IDs(conf.KeyMaster)
		switch {
		case cause != nil:
			text, hint = ": "+process.PublicText(cause), conf.HintOf(cause)
		case main == "" && b.o.Secrets.OneServiceOnly():
			text = ": this sidecar was admitted for no service"
			hint = rotation.RejoinHint(b.o.Cluster.Self(), b.o.Options.ServiceName)
		}
	}
	e := conf.Errorf(conf.CodeUnsupported, "stored secrets that this agent cannot open are missing from what it serves: %s%s", strings.Join(names, ", "), text)
	if hint != "" {
		e.Message += "; " + hint
	}
	return e
}
