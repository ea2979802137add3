package command

import (
	"bytes"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// BaselineFeatures is what the first build can apply, which did not report its features.
const BaselineFeatures uint64 = 1<<KindGenesis | 1<<KindEdit | 1<<KindAudit | 1<<KindCluster | 1<<KindDigest

// Features returns what this build can apply: bit k for kind k. Members exchange it, so
// that a leader writes no entry that one of them cannot apply. A field that a later
// build adds to a kind gets a bit of its own here, from 52 downwards, and RequiredFeatures
// requires it.
func Features() (bits uint64) {
	for k := Kind(1); k < 40; k++ {
		if newCommand(k) != nil {
			bits |= 1 << k
		}
	}
	return bits | featureAuditSource | FeatureMemberKey | featureAnyKeys | featureVersionSignature | featureRollouts | featureReportRole
}

// featureAuditSource is the bit of Audit.Source.
const featureAuditSource = 1 << 52

// FeatureMemberKey is the bit of Member.KeyHash.
const FeatureMemberKey = 1 << 51

// featureAnyKeys is the bit of schemas that older builds do not read: those with x-keys,
// whose keys their checks reject, and those that nest deeper than a document.
const featureAnyKeys = 1 << 49

// featureVersionSignature is the bit of VersionSignature and Replaces. It gates the Reissue
// that brings the first of them into a store. An Edit is not gated again: it has one where
// the store has some already, or all voters are known to apply it.
const featureVersionSignature = 1 << 50

// featureRollouts is the bit of what other kinds than Rollout have for rollouts: Edit.Replace
// and ReissueItem.Staged.
const featureRollouts = 1 << 48

// featureReportRole is the bit of API tokens with the role config.report, which the checks
// of older builds reject.
const featureReportRole = 1 << 47

// isWide reports whether a schema, in canonical form, needs featureAnyKeys.
func isWide(schema []byte) bool {
	depth, inText := 0, false
	for i := 0; i < len(schema); i++ {
		switch c := schema[i]; {
		case c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
			if depth > conf.MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return bytes.Contains(schema, []byte(`"x-keys"`))
}

// RequiredFeatures returns the bits that a build must have to apply c.
func RequiredFeatures(c Command) uint64 {
	bits := uint64(1) << c.Kind()
	switch c := c.(type) {
	case *Audit:
		if c.Source != "" {
			bits |= featureAuditSource
		}
	case *Edit:
		if slices.ContainsFunc(c.Schemas, func(s Schema) bool { return isWide(s.Schema) }) {
			bits |= featureAnyKeys
		}
		if c.Replace {
			bits |= featureRollouts
		}
	case *Reissue:
		if slices.ContainsFunc(c.Items, func(i ReissueItem) bool { return i.VersionSignature != "" || i.Replaces != "" }) {
			bits |= featureVersionSignature
		}
		if slices.ContainsFunc(c.Items, func(i ReissueItem) bool { return len(i.Staged) > 0 }) {
			bits |= featureRollouts
		}
	case *APITokens:
		if slices.ContainsFunc(c.Create, func(t APIToken) bool { return t.Role == string(conf.RoleReport) }) {
			bits |= featureReportRole
		}
	case *Cluster:
		if slices.ContainsFunc(c.Members, func(m Member) bool { return m.KeyHash != "" }) {
			bits |= FeatureMemberKey
		}
	}
	return bits
}
