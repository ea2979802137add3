package command

// KnownFirst is what a build can apply that does not tell: the kinds of the first one.
const KnownFirst uint64 = 1<<KindGenesis | 1<<KindEdit | 1<<KindAudit | 1<<KindCluster | 1<<KindDigest

// Known is what this build can apply: bit k for kind k. Members tell each other,
// so that a leader does not write what one of them would have to stop at. A field
// that a later build adds to a kind is as unknown to earlier ones as a new kind
// is: it gets a bit of its own here, from 52 downwards, and Needs asks for it.
func Known() (bits uint64) {
	for k := Kind(1); k < 40; k++ {
		if blank(k) != nil {
			bits |= 1 << k
		}
	}
	return bits | knowsQueues
}

// knowsQueues is the bit of an Audit that names its queue.
const knowsQueues = 1 << 52

// Needs are the bits of what a build must know to apply c.
func Needs(c Command) uint64 {
	if a, ok := c.(*Audit); ok && a.Source != "" {
		return 1<<KindAudit | knowsQueues
	}
	return 1 << c.Kind()
}
