package run

import (
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// What an agent has in memory beside Go's own, at least and in proportion: SQLite's caches,
// the program, what of its files the kernel has mapped.
const (
	besideGo      = 24 << 20
	besidePercent = 10
)

// limitMemory makes Go collect its garbage before the process takes more memory than its
// cgroup may: the kernel would kill it. GOMEMLIMIT in the environment has precedence, and
// GOMEMLIMIT=off turns it off. It returns the limit of the cgroup, 0 for none.
func limitMemory(lookupEnv func(string) (string, bool), log *slog.Logger) (group int64) {
	if v, _ := lookupEnv("GOMEMLIMIT"); v != "" {
		return 0
	}
	of := func() (uint64, error) {
		limit, err := memlimit.FromCgroup()
		group = int64(min(limit, 1<<62)) //nolint:gosec // below 2^63
		return goMemory(limit), err
	}
	limit, err := memlimit.Set(memlimit.WithProvider(of), memlimit.WithRatio(1))
	switch {
	case err != nil: // no cgroups at all, such as on macOS
		log.Debug("no memory limit is known", "err", err)
		return 0
	case limit >= 1<<60:
		return 0
	}
	log.Info("the memory of this agent is limited by its cgroup", "cgroup", group, "go", limit)
	return group
}

// goMemory is what Go may have of the memory of a cgroup.
func goMemory(group uint64) uint64 {
	return max(group/2, group-min(group, max(besideGo, group/100*besidePercent)))
}
