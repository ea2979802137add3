package conf

import (
	"regexp"
	"strconv"
)

// MaxNodeID is the length limit of a node id, in bytes.
const MaxNodeID = 63

// A server that lost its log may have voted, or acknowledged entries, and cannot keep
// those promises. It rejoins as the next incarnation, another member: NODE-r2 after
// NODE, NODE-r3 after that.
var incarnationRE = regexp.MustCompile(`^(.+)-r([1-9][0-9]{0,8})$`)

// ParseIncarnation splits a node id into its base and its incarnation; the first one
// has number 1 and no suffix.
func ParseIncarnation(id string) (base string, n int) {
	if m := incarnationRE.FindStringSubmatch(id); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil && n > 1 {
			return m[1], n
		}
	}
	return id, 1
}

// IncarnationID returns the node id of incarnation n of base, at most MaxNodeID bytes.
func IncarnationID(base string, n int) string {
	suffix := "-r" + strconv.Itoa(n)
	return base[:min(len(base), MaxNodeID-len(suffix))] + suffix
}

// IsLaterIncarnation reports whether id is a later incarnation of the same node as of.
func IsLaterIncarnation(of, id string) bool {
	base, was := ParseIncarnation(of)
	_, is := ParseIncarnation(id)
	return is > was && IncarnationID(base, is) == id
}
