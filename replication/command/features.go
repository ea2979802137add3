package command

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
	return bits | featureAuditSource
}

// featureAuditSource is the bit of Audit.Source.
const featureAuditSource = 1 << 52

// RequiredFeatures returns the bits that a build must have to apply c.
func RequiredFeatures(c Command) uint64 {
	if a, ok := c.(*Audit); ok && a.Source != "" {
		return 1<<KindAudit | featureAuditSource
	}
	return 1 << c.Kind()
}
