package view

import (
	"bytes"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Equal reports whether two records are the same in all that a view publishes.
func Equal(a, b *conf.Record) bool {
	return a == b || a.IssuedAt == b.IssuedAt && a.Signature == b.Signature && a.VersionSignature == b.VersionSignature && a.KeyID == b.KeyID &&
		reissued(a, b) && stagedAlike(a.Staged, b.Staged) && signedAlike(a.Staged, b.Staged)
}

// reissued reports whether a is what b is, up to time, signature, key and what is staged: who
// waits for the stable version is not woken by these.
func reissued(a, b *conf.Record) bool {
	return a.Service == b.Service && a.Version == b.Version && a.Epoch == b.Epoch && a.Checksum == b.Checksum &&
		a.UpdatedAt == b.UpdatedAt && a.UpdatedBy == b.UpdatedBy && a.Deleted == b.Deleted && a.Index == b.Index &&
		bytes.Equal(a.Values, b.Values) && bytes.Equal(a.Config, b.Config) && bytes.Equal(a.Schema, b.Schema) &&
		slices.Equal(a.Secrets, b.Secrets)
}

// stagedAlike reports whether a is what b is, up to times, signatures and keys. A rollout and a
// version keep their content: what can change of a rollout is its step and whether it is paused.
func stagedAlike(a, b *conf.Staged) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Floor != b.Floor || versionOf(a.Kept) != versionOf(b.Kept) {
		return false
	}
	x, y := a.Rollout, b.Rollout
	if x == nil || y == nil {
		return x == y
	}
	return x.ID == y.ID && x.Step == y.Step && x.StepIdx == y.StepIdx && x.Paused == y.Paused && len(x.Targets) == len(y.Targets)
}

func versionOf(v *conf.SignedVersion) uint64 {
	if v == nil {
		return 0
	}
	return v.Version
}

// signedAlike reports whether two that are alike have the same signatures.
func signedAlike(a, b *conf.Staged) bool {
	if a == b {
		return true
	}
	of := func(s *conf.Staged) (out [][4]string) {
		for v := range s.Signed() {
			out = append(out, [4]string{v.IssuedAt, v.Signature, v.VersionSignature, v.KeyID})
		}
		return out
	}
	return slices.Equal(of(a), of(b))
}
