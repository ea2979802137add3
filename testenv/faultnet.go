package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// Network is the wires between the agents of a test. Each agent advertises an
// address of the Network, which passes bytes on to where it really listens, so
// that each direction between two agents can be slowed down, held or cut.
type Network struct {
	t    testing.TB
	pids func() map[int]string // process id -> node

	mu    sync.Mutex
	links map[[2]string]*Link
	ends  []net.Listener
	asked chan *caller
	stop  chan struct{}
	wg    sync.WaitGroup
}

// Link is one direction from one node to another: the bytes that the first sends
// to the second, on whichever side the connection was dialed.
type Link struct {
	mu      sync.Mutex
	hold    bool          // bytes wait, as when packets are lost: nothing arrives, nothing breaks
	cut     bool          // connections are reset and refused
	delay   time.Duration // how long each byte travels
	reset   float64       // how likely a piece of data resets its connection instead of arriving
	changed chan struct{}
	conns   map[*wire]struct{}
}

// wire is one connection through the Network.
type wire struct{ a, b net.Conn }

func (w *wire) close() {
	_ = w.a.Close()
	_ = w.b.Close()
}

// NewNetwork makes one without ends. pids names the processes of the nodes, as
// they are at the time of the call.
func NewNetwork(t testing.TB, pids func() map[int]string) *Network {
	n := &Network{t: t, pids: pids, links: map[[2]string]*Link{}, asked: make(chan *caller, 1024), stop: make(chan struct{})}
	n.wg.Go(n.tell)
	t.Cleanup(n.close)
	return n
}

func (n *Network) close() {
	close(n.stop)
	n.mu.Lock()
	for _, l := range n.ends {
		_ = l.Close()
	}
	links := n.links
	n.mu.Unlock()
	for _, l := range links {
		l.resetAll()
	}
	n.wg.Wait()
}

// Link is the direction from one node to another.
func (n *Network) Link(from, to string) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]string{from, to}
	if n.links[key] == nil {
		n.links[key] = &Link{changed: make(chan struct{}), conns: map[*wire]struct{}{}}
	}
	return n.links[key]
}

func (l *Link) set(f func()) {
	l.mu.Lock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// Hold stops what travels in this direction until Heal.
func (l *Link) Hold() { l.set(func() { l.hold = true }) }

// Cut resets the connections that use this direction, and refuses new ones.
func (l *Link) Cut() {
	l.set(func() { l.cut = true })
	l.resetAll()
}

// Delay makes everything in this direction arrive later by d.
func (l *Link) Delay(d time.Duration) { l.set(func() { l.delay = d }) }

// Lossy resets a connection instead of passing a piece of data on, so often.
func (l *Link) Lossy(chance float64) { l.set(func() { l.reset = chance }) }

// Heal takes all faults away.
func (l *Link) Heal() { l.set(func() { l.hold, l.cut, l.delay, l.reset = false, false, 0, 0 }) }

func (l *Link) resetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.conns {
		w.close()
	}
}

func (l *Link) state() (hold, cut bool, delay time.Duration, reset float64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hold, l.cut, l.delay, l.reset, l.changed
}

// Each calls f for both directions between each of a and each of b.
func (n *Network) Each(a, b []string, f func(*Link)) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				f(n.Link(x, y))
				f(n.Link(y, x))
			}
		}
	}
}

// Heal takes the faults of all links away.
func (n *Network) Heal() {
	n.mu.Lock()
	links := make([]*Link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	for _, l := range links {
		l.Heal()
	}
}

// End opens an address at which node is reached; its agent listens on target.
func (n *Network) End(node, target string) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(FreePorts(n.t, 1)[0]))
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.ends = append(n.ends, l)
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.carry(c, node, target) })
		}
	})
	return l.Addr().String()
}

func (n *Network) carry(c net.Conn, to, target string) {
	defer c.Close()
	from, ok := n.dialer(c)
	if !ok {
		return // gone already; or nobody's, whose faults would not be known
	}
	there, back := n.Link(from, to), n.Link(to, from)
	if _, cut, _, _, _ := there.state(); cut {
		return
	}
	if _, cut, _, _, _ := back.state(); cut {
		return
	}
	d, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	w := &wire{c, d}
	defer w.close()
	for _, l := range []*Link{there, back} {
		l.mu.Lock()
		l.conns[w] = struct{}{}
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			delete(l.conns, w)
			l.mu.Unlock()
		}()
	}
	var both sync.WaitGroup
	both.Go(func() { n.pump(w, there, c, d) })
	both.Go(func() { n.pump(w, back, d, c) })
	both.Wait()
}

type piece struct {
	data []byte
	due  time.Time
}

// pump moves bytes in one direction. Delay is time on the way, not a limit of the
// rate, so reading goes on while earlier bytes travel.
func (n *Network) pump(w *wire, l *Link, in, out net.Conn) {
	pieces := make(chan piece, 256)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 32<<10)
			k, err := in.Read(buf)
			if k > 0 {
				_, _, delay, _, _ := l.state()
				select {
				case pieces <- piece{buf[:k], time.Now().Add(delay)}:
				case <-n.stop:
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					w.close()
				}
				return
			}
		}
	}()
	for p := range pieces {
		if !n.deliver(l, p, out) {
			w.close()
		}
	}
	if t, ok := out.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

func (n *Network) deliver(l *Link, p piece, out net.Conn) bool {
	if wait := time.Until(p.due); wait > 0 {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-n.stop:
			timer.Stop()
			return false
		}
	}
	for {
		hold, cut, _, reset, changed := l.state()
		if cut || (reset > 0 && rand.Float64() < reset) {
			return false
		}
		if !hold {
			_, err := out.Write(p.data)
			return err == nil
		}
		select {
		case <-changed:
		case <-n.stop:
			return false
		}
	}
}

// caller is a connection of which somebody asks where it comes from.
type caller struct {
	from, to int // its ports
	until    time.Time
	looks    int
	node     chan string // gets the node, "" for this process; closed for a stranger
}

// dialer finds out which node a connection comes from, by the process that has
// its other end open. "" is this process; ok is false for a stranger.
func (n *Network) dialer(c net.Conn) (node string, ok bool) {
	q := &caller{
		from: c.RemoteAddr().(*net.TCPAddr).Port, to: c.LocalAddr().(*net.TCPAddr).Port,
		until: time.Now().Add(2 * time.Second), node: make(chan string, 1),
	}
	select {
	case n.asked <- q:
	case <-n.stop:
		return "", false
	}
	select {
	case node, ok = <-q.node:
	case <-n.stop:
	}
	return node, ok
}

// tell answers all callers with one look at the kernel's lists, which is dear: on a
// busy machine, where each of hundreds looks for itself, nobody gets through in time,
// and dials again. The lists are not read in one piece, so a miss is looked at again.
func (n *Network) tell() {
	var open []*caller
	again := time.NewTicker(base.PollEvery)
	defer again.Stop()
	for {
		var due <-chan time.Time // nothing while nobody waits
		if len(open) > 0 {
			due = again.C
		}
		select {
		case q := <-n.asked:
			open = append(open, q)
		case <-due:
		case <-n.stop:
			return
		}
		for len(n.asked) > 0 {
			open = append(open, <-n.asked)
		}
		open = n.look(open)
	}
}

// look answers those whose process is found, gives up on those that are gone, and
// returns the others.
func (n *Network) look(open []*caller) (left []*caller) {
	inodes := map[string]*caller{}
	list, _ := os.ReadFile("/proc/net/tcp")
	for _, q := range open {
		if inode := socketInode(list, q.from, q.to); inode != "" {
			inodes["socket:["+inode+"]"] = q
		}
	}
	if len(inodes) > 0 {
		pids := n.pids()
		pids[os.Getpid()] = ""
		for pid, name := range pids {
			for _, file := range openFiles(pid) {
				if q := inodes[file]; q != nil {
					q.node <- name
					delete(inodes, file)
					q.looks = -1
				}
			}
		}
	}
	for _, q := range open {
		if q.looks < 0 {
			continue
		}
		if q.looks++; q.looks > 3 && time.Now().After(q.until) {
			close(q.node)
			continue
		}
		left = append(left, q)
	}
	return left
}

// openFiles are what a process has open, as the kernel names it.
func openFiles(pid int) (out []string) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if to, err := os.Readlink(dir + "/" + name); err == nil {
			out = append(out, to)
		}
	}
	return out
}

// socketInode is the inode of the connected socket on this host that goes from one
// loopback port to another, in the list of /proc/net/tcp. The first alone would not do:
// the kernel lends a port to several connections at once when they go to different
// places. The list has thousands of lines under load, so only the one line is taken apart.
func socketInode(data []byte, from, to int) string {
	ends := fmt.Appendf(nil, ": 0100007F:%04X 0100007F:%04X ", from, to)
	for {
		at := bytes.Index(data, ends)
		if at < 0 {
			return ""
		}
		data = data[at+2:]
		line, _, _ := bytes.Cut(data, []byte("\n"))
		if f := bytes.Fields(line); len(f) > 8 && string(f[8]) != "0" {
			return string(f[8])
		}
	}
}
