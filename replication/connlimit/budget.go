package connlimit

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Port names a port in the log, in health and in metrics.
type Port string

// The ports of an agent.
const (
	Local   Port = "local"
	Admin   Port = "admin"
	Page    Port = "page" // the web page's own address
	Cluster Port = "cluster"
	MQTT    Port = "mqtt"
)

// Ports are all of them.
var Ports = []Port{Local, Admin, Page, Cluster, MQTT}

// ceilings are the connections of a port where file descriptors are plenty, and parts its
// part of those that there are. The local API has two listeners.
var (
	ceilings = map[Port]int{Local: 4096, Admin: 2048, Page: 512, Cluster: 1024, MQTT: 2048}
	parts    = map[Port]int{Local: 18, Admin: 14, Page: 8, Cluster: 20, MQTT: 12} // in percent, local twice; the rest answers those who are rejected
)

const (
	reserve    = 128              // descriptors for files, and for connections that the agent opens
	fullFor    = 30 * time.Second // a port counts as full for so long after it rejected a connection
	fewHandles = 8                // connections that a port has in any case
)

// Budget divides the file descriptors of the process among its ports: a flood of one
// of them leaves enough for the others and for the files of the agent. It also knows
// which ports are full. Safe for concurrent use.
type Budget struct {
	descriptors uint64
	log         *slog.Logger

	mu       sync.Mutex
	rejected map[Port]uint64
	last     map[Port]time.Time // of the ports that are full
}

// Descriptors returns how many the process may have. Go has raised the limit to the hard one.
func Descriptors() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return l.Cur
}

// NewBudget divides so many descriptors.
func NewBudget(descriptors uint64, log *slog.Logger) *Budget {
	return &Budget{descriptors: descriptors, log: log, rejected: map[Port]uint64{}, last: map[Port]time.Time{}}
}

// Max is how many connections a listener of the port may have open.
func (b *Budget) Max(p Port) int {
	have := min(b.descriptors, 1<<20)
	free := have - min(reserve, have/2)
	return min(ceilings[p], max(fewHandles, int(free)*parts[p]/100))
}

// Reject notes that a port has rejected a connection because it has as many as it may.
func (b *Budget) Reject(p Port) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejected[p]++
	_, full := b.last[p]
	b.last[p] = time.Now()
	if full {
		return
	}
	b.log.Warn("a port has as many connections as it may: others are rejected", "port", p, "connections", b.Max(p), "file_descriptors", b.descriptors,
		"hint", "find the client that keeps them open, or raise the limit of file descriptors (ulimit -n, LimitNOFILE)")
	time.AfterFunc(fullFor, func() { b.clear(p) })
}

// clear notes the end of a flood, or looks again when it goes on.
func (b *Budget) clear(p Port) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := fullFor - time.Since(b.last[p]); left > 0 {
		time.AfterFunc(left, func() { b.clear(p) })
		return
	}
	delete(b.last, p)
	b.log.Info("the port takes connections again", "port", p, "rejected", b.rejected[p])
}

// Rejected is how many connections a port has rejected.
func (b *Budget) Rejected(p Port) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rejected[p]
}

// Err names the ports that are full, nil for none.
func (b *Budget) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var full []string
	for _, p := range Ports {
		if _, ok := b.last[p]; ok {
			full = append(full, fmt.Sprintf("the %s port has as many connections as it may (%d)", p, b.Max(p)))
		}
	}
	if full == nil {
		return nil
	}
	return conf.Errorf(conf.CodeRateLimited, "%s: others are rejected", strings.Join(full, ", ")).
		WithHint("find the client that keeps them open, or raise the limit of file descriptors")
}
