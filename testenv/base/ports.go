package base

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// FreePorts finds n loopback ports that nothing listens on. They lie below the
// kernel's range for outgoing connections, and in a block that no other test
// process has, so that nobody takes a port while its agent is being restarted.
func FreePorts(t testing.TB, n int) []int { return FreePortRows(t, n) }

// FreePortRows is FreePorts for an agent that counts up: the ports at each of
// steps above a port are free and nobody else's, too.
func FreePortRows(t testing.TB, n int, steps ...int) []int {
	t.Helper()
	ours.Lock()
	defer ours.Unlock()
	var ports []int
next:
	for len(ports) < n {
		if len(ours.ports) == 0 {
			ours.ports = claimPorts(t)
		}
		port := ours.ports[0]
		ours.ports = ours.ports[1:]
		for _, step := range steps {
			if !slices.Contains(ours.ports, port+step) {
				continue next
			}
		}
		for _, step := range append(steps, 0) {
			if !PortFree(port + step) {
				continue next
			}
		}
		ours.ports = slices.DeleteFunc(ours.ports, func(p int) bool { return slices.Contains(steps, p-port) })
		ports = append(ports, port)
	}
	return ports
}

// ours are the ports of this process's blocks that it has not given out yet.
var ours struct {
	sync.Mutex
	ports []int
	locks []*os.File // never closed: the end of the process gives them back
}

const firstPort, blockPorts, portBlocks = 12_000, 100, 200

// claimPorts takes a block of ports for this process: a lock on a file that holds
// until the process ends.
func claimPorts(t testing.TB) []int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "holdfast-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, block := range rand.Perm(portBlocks) {
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(block)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			continue // another user's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			_ = f.Close()
			continue
		}
		ours.locks = append(ours.locks, f)
		ports := rand.Perm(blockPorts)
		for i := range ports {
			ports[i] += firstPort + block*blockPorts
		}
		return ports
	}
	t.Fatal("all blocks of test ports are taken")
	return nil
}

// PortFree says whether nothing listens on the loopback port.
func PortFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
