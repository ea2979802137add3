package served

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Chosen reports whether an instance is a target of the step of a rollout that runs.
// joined is the log index at which it became an instance of the service: one that is
// not below the index of the step joined too late for it. 0 means not known, and is no
// target. It does not tell who is held back: those are no targets either (rule 12).
func Chosen(r *conf.Rollout, instance string, labels map[string]string, joined uint64) bool {
	if joined == 0 || joined >= r.StepIdx {
		return false
	}
	hash := conf.TargetHash(r.Salt, instance)
	for i := range r.Targets {
		if r.Targets[i].Has(hash, instance, labels) {
			return true
		}
	}
	return false
}

// choice is what to serve of a service.
type choice struct {
	rec  *conf.Record
	have *staged // nil: rec is stable, and nothing else is to be kept
}

// choose decides what to serve of a service. stable is its record in the log, cur what is
// served now, nil for nothing, and have what is known beside it. targeted says whether this
// agent is a target of the rollout of stable.
func choose(cur *conf.Record, have *staged, stable *conf.Record, targeted func(*conf.Rollout) bool) choice {
	if have == nil {
		if stable.Staged == nil {
			return notBack(cur, have, choice{rec: stable}, stable)
		}
		have = &staged{}
	}
	var ro *conf.Rollout
	var kept *conf.SignedVersion
	if stable.Staged != nil {
		ro, kept = stable.Staged.Rollout, stable.Staged.Kept
	}
	if m := have.mark; m != nil && m.Epoch == stable.Epoch {
		back := &revert{&m.Revert, m.Rollout, m.At, m.By}
		switch at := m.Revert.Version; {
		case ro != nil && ro.Revert.Version == at:
			back.version = &ro.Revert
			return choice{back.record(stable), &staged{mark: m}}
		case stable.Version < at, stable.Version > at && contentDigest(stable) == m.Content:
			if kept != nil && kept.Version == at {
				back.version = kept
			}
			return choice{back.record(stable), &staged{mark: m}}
		}
	}
	// No mark, or a newer stable version, which was not refused: the mark goes.
	c := choice{rec: stable}
	mine := cur != nil && ro != nil && cur.Epoch == stable.Epoch && cur.Version == ro.Candidate.Version
	switch {
	case ro != nil && (mine || targeted(ro)):
		c.rec = ro.Candidate.Record(stable, ro.StartedAt, ro.StartedBy)
		c.have = &staged{revert: &revert{&ro.Revert, ro.ID, ro.StartedAt, ro.StartedBy}, candidate: true}
	case cur != nil && have.revert != nil && cur.Epoch == stable.Epoch && cur.Version == stable.Version:
		// Promoted while it was served: the right to go on to the revert stays (rule 11).
		back := *have.revert
		if kept != nil && kept.Version == back.version.Version {
			back.version = kept
		}
		c.have = &staged{revert: &back}
	}
	return notBack(cur, have, c, stable)
}

// notBack keeps what is served when a choice would go back from it.
func notBack(cur *conf.Record, have *staged, c choice, stable *conf.Record) choice {
	if cur == nil || cur == stable || cur.Epoch != stable.Epoch || c.rec.Version >= cur.Version {
		return c
	}
	kept := &staged{}
	if have != nil {
		kept.revert, kept.candidate = have.revert, have.candidate
	}
	return choice{cur, kept}
}

// contentDigest is the digest of what a service reads of a record: its document, its
// sealed secrets and its schema. A secret that is sealed again keeps its time.
func contentDigest(r *conf.Record) string {
	h := sha256.New()
	add := func(part []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	add(r.Config)
	add(r.Schema)
	for _, secret := range r.Secrets {
		add([]byte(secret.Key))
		add([]byte(secret.UpdatedAt))
	}
	return hex.EncodeToString(h.Sum(nil))
}
