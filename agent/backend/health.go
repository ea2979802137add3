package backend

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/replica"
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
		DatabaseStatus: st.Database, ConfigEpoch: b.o.View.Load().Epoch,
		LKGCacheValid: file.Valid, Event: &st.Event, SchemaVersion: b.sup.SchemaVersion(),
	}
	backup := b.o.Backups.Known()
	h.LitestreamStatus, h.LastBackup = backup.LitestreamStatus(), backup.LastBackup
	full, unopened, env := b.sup.DiskFull(), b.unopenedError(), documents.EnvError(b.o.Secrets.EnvProblems(b.o.Served.Load()))
	noLeader := b.leaderError()
	able := st.Mode
	if h.DatabaseStatus == conf.DatabaseHealthy && conf.CodeOf(st.Schemas) == conf.CodeSchemaMismatch {
		h.DatabaseStatus, able = conf.DatabaseSchemaMismatch, conf.ModeReadOnly
	}
	conf.Standing{Able: able, Leader: noLeader == nil, Faults: []error{full, unopened, st.Schemas, env}}.Judge(&h)
	if st.Mode != conf.ModeNormal {
		noLeader = nil // the agent's own state says more
	}
	said := []error{st.Err, noLeader, lkgErr, full, unopened, st.Schemas, env, b.o.Backups.ForeignErr(), b.cutOffError(), b.o.Cluster.Clocks.Err(), b.o.Ports.Err()}
	for _, remark := range b.o.Remarks {
		said = append(said, remark())
	}
	for _, err := range said {
		if err != nil && h.Err == nil {
			text := process.PublicText(err)
			h.Err = &text
		}
	}
	return h
}

// leaderError is why this agent follows no leader, nil while it does or leads.
func (b *Backend) leaderError() error {
	if r := b.sup.Current(); r != nil && r.HasLeader() {
		return nil
	}
	return conf.Errorf(conf.CodeNoQuorum, "no leader was heard from for longer than an election takes: writes are rejected until there is one; see: holdfast cluster status")
}

// cutOffError names the members that this agent, as the leader, has cut off. It says
// nothing about this agent, and leaves ok as it is.
func (b *Backend) cutOffError() error {
	rep := b.sup.Current()
	if rep == nil {
		return nil
	}
	var said []string
	for _, c := range replica.CutOff(rep) {
		if len(said) < maxNamed {
			said = append(said, "member "+c.NodeID+" is "+peers.CutOffText(c))
		}
	}
	if said == nil {
		return nil
	}
	return conf.Errorf(conf.CodeConflict, "%s", strings.Join(said, ", "))
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
		r.CutOff = replica.CutOff(rep)
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
	unopened := b.o.Secrets.Unopened(b.o.Served.Load())
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
