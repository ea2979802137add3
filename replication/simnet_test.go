package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simNet is the network of a simulation. Messages take time, are lost,
// repeated, and do not pass a cut. All of it is drawn from one seed.
type simNet struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	ends  map[raft.ServerAddress]*simEnd
	cut   map[[2]raft.ServerAddress]bool // from, to
	loss  float64                        // how likely a message is lost
	twice float64                        // how likely entries or a snapshot arrive again later
	delay time.Duration                  // the longest way of a message
	hasty bool                           // entries count as committed as soon as they are sent

	leaders map[uint64]raft.ServerID // by term
	wrong   func(format string, args ...any)
	count   map[string]int
	wg      sync.WaitGroup
}

// simEnd is the transport of one life of a node.
type simEnd struct {
	net  *simNet
	addr raft.ServerAddress
	id   raft.ServerID
	ch   chan raft.RPC
	once sync.Once
	dead chan struct{}
}

var errSim = errors.New("the network lost it")

func (n *simNet) open(addr raft.ServerAddress, id raft.ServerID) *simEnd {
	e := &simEnd{net: n, addr: addr, id: id, ch: make(chan raft.RPC), dead: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends[addr] = e
	return e
}

// Close ends this life: it receives and sends nothing more.
func (e *simEnd) Close() error {
	e.once.Do(func() {
		close(e.dead)
		e.net.mu.Lock()
		defer e.net.mu.Unlock()
		if e.net.ends[e.addr] == e {
			delete(e.net.ends, e.addr)
		}
	})
	return nil
}

// refused reports whether a connection from from to addr is refused.
func (n *simNet) refused(from raft.ServerAddress) func(addr string) bool {
	return func(addr string) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		to := raft.ServerAddress(addr)
		return n.ends[to] == nil && !n.cut[[2]raft.ServerAddress{from, to}] && !n.cut[[2]raft.ServerAddress{to, from}]
	}
}

// way draws the fate of one message: how long it travels, and whether it arrives.
func (n *simNet) way(from, to raft.ServerAddress, what string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count[what]++
	d := time.Duration(n.rnd.Int64N(int64(n.delay) + 1))
	if from == to {
		return d, true
	}
	if n.cut[[2]raft.ServerAddress{from, to}] || n.rnd.Float64() < n.loss {
		n.count["lost"]++
		return d, false
	}
	return d, true
}

func (n *simNet) at(addr raft.ServerAddress) *simEnd {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[addr]
}

// spoke records that id sends as the leader of term.
func (n *simNet) spoke(term uint64, id raft.ServerID) {
	n.mu.Lock()
	was, known := n.leaders[term]
	n.leaders[term] = id
	n.mu.Unlock()
	if known && was != id {
		n.wrong("term %d has two leaders, %s and %s", term, was, id)
	}
}

// sleep is false when the sender dies meanwhile.
func (e *simEnd) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.dead:
		return false
	}
}

// patienceOf is how long a sender waits for an answer that does not come.
const patienceOf = 2 * time.Second

// call is one request and its answer, each with a fate of its own.
func (e *simEnd) call(to raft.ServerAddress, what string, cmd any, body []byte) (any, error) {
	began := time.Now()
	lost := func() (any, error) {
		e.sleep(patienceOf - time.Since(began))
		return nil, errSim
	}
	select {
	case <-e.dead:
		return nil, errSim
	default:
	}
	d, ok := e.net.way(e.addr, to, what)
	if !e.sleep(d) {
		return nil, errSim
	}
	if !ok {
		return lost()
	}
	end := e.net.at(to)
	if end == nil {
		return nil, errSim // refused
	}
	resp, err := end.deliver(cmd, body, e.dead, patienceOf)
	if err != nil {
		return nil, err
	}
	d, ok = e.net.way(to, e.addr, "answer")
	if !ok || !e.sleep(d) {
		return lost()
	}
	return resp.Response, resp.Error
}

// deliver hands a request to the node and waits for its answer.
func (e *simEnd) deliver(cmd any, body []byte, dead <-chan struct{}, wait time.Duration) (raft.RPCResponse, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: cmd, RespChan: answer}
	if body != nil {
		rpc.Reader = bytes.NewReader(body)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case e.ch <- rpc:
	case <-e.dead:
		return raft.RPCResponse{}, errSim
	case <-dead:
		return raft.RPCResponse{}, errSim
	case <-t.C:
		return raft.RPCResponse{}, errSim
	}
	select {
	case r := <-answer:
		return r, nil
	case <-e.dead:
		return raft.RPCResponse{}, errSim
	case <-dead:
		return raft.RPCResponse{}, errSim
	case <-t.C:
		return raft.RPCResponse{}, errSim
	}
}

// again delivers a request again, some time later: as one that was delayed on a
// connection that its sender has given up.
func (e *simEnd) again(to raft.ServerAddress, cmd any, body []byte) {
	e.net.mu.Lock()
	twice, wait := e.net.rnd.Float64() < e.net.twice, time.Duration(e.net.rnd.Int64N(int64(5*time.Second)))
	if twice {
		e.net.count["repeated"]++
		e.net.wg.Add(1)
	}
	e.net.mu.Unlock()
	if !twice {
		return
	}
	go func() {
		defer e.net.wg.Done()
		if !e.sleep(wait) {
			return
		}
		if end := e.net.at(to); end != nil {
			_, _ = end.deliver(cmd, body, e.dead, patienceOf)
		}
	}()
}

func (e *simEnd) Consumer() <-chan raft.RPC              { return e.ch }
func (e *simEnd) LocalAddr() raft.ServerAddress          { return e.addr }
func (e *simEnd) SetHeartbeatHandler(func(raft.RPC))     {}
func (e *simEnd) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

func (e *simEnd) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

func (e *simEnd) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (e *simEnd) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	e.net.spoke(req.Term, raft.ServerID(req.ID))
	c, repeated := *req, *req
	c.Entries, repeated.Entries = copies(req.Entries), copies(req.Entries) // the sender's stay its own
	if last := len(c.Entries); e.net.hasty && last > 0 {
		c.LeaderCommitIndex = c.Entries[last-1].Index
	}
	e.again(to, &repeated, nil)
	r, err := e.call(to, "append", &c, nil)
	if err == nil {
		*resp = *r.(*raft.AppendEntriesResponse)
	}
	return err
}

func copies(in []*raft.Log) []*raft.Log {
	out := make([]*raft.Log, len(in))
	for i, l := range in {
		entry := *l
		out[i] = &entry
	}
	return out
}

func (e *simEnd) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	c := *req
	r, err := e.call(to, "vote", &c, nil)
	if err == nil {
		*resp = *r.(*raft.RequestVoteResponse)
	}
	return err
}

func (e *simEnd) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	c := *req
	r, err := e.call(to, "pre-vote", &c, nil)
	if err == nil {
		*resp = *r.(*raft.RequestPreVoteResponse)
	}
	return err
}

func (e *simEnd) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	e.net.spoke(req.Term, raft.ServerID(req.ID))
	body, err := io.ReadAll(data)
	if err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	c, repeated := *req, *req
	e.again(to, &repeated, body)
	r, err := e.call(to, "snapshot", &c, body)
	if err == nil {
		*resp = *r.(*raft.InstallSnapshotResponse)
	}
	return err
}

func (e *simEnd) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	c := *req
	r, err := e.call(to, "timeout now", &c, nil)
	if err == nil {
		*resp = *r.(*raft.TimeoutNowResponse)
	}
	return err
}
