package keys

import (
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Names lists the variables that every server has, in the order in which they are written.
func Names() []string {
	return slices.DeleteFunc(namesOf(conf.MemberServer), func(name string) bool { return strings.Contains(name, "_OLD_") })
}
