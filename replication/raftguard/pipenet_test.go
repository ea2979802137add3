package raftguard

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// pipeNet is a network inside of the process, for raft's own transport. It works in
// virtual time too.
type pipeNet struct {
	mu    sync.Mutex
	ends  map[string]*pipeEnd
	conns []net.Conn
	away  bool // no new connections
}

type pipeEnd struct {
	net  *pipeNet
	name string
	in   chan net.Conn
	once sync.Once
	done chan struct{}
}

func newPipeNet() *pipeNet { return &pipeNet{ends: map[string]*pipeEnd{}} }

func (n *pipeNet) open(name string) *raft.NetworkTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &pipeEnd{net: n, name: name, in: make(chan net.Conn), done: make(chan struct{})}
	n.ends[name] = e
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: e, MaxPool: 3, Timeout: 10 * time.Second, Logger: NewLogger(discard)})
}

// cut closes all connections. With away there are no new ones until the next call.
func (n *pipeNet) cut(away bool) {
	n.mu.Lock()
	conns := n.conns
	n.conns, n.away = nil, away
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type address string

func (address) Network() string  { return "pipe" }
func (a address) String() string { return string(a) }

func (e *pipeEnd) Addr() net.Addr { return address(e.name) }

func (e *pipeEnd) Accept() (net.Conn, error) {
	select {
	case c := <-e.in:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

func (e *pipeEnd) Dial(to raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	e.net.mu.Lock()
	far, away := e.net.ends[string(to)], e.net.away
	e.net.mu.Unlock()
	if far == nil || away {
		return nil, errors.New("refused")
	}
	near, other := net.Pipe()
	select {
	case far.in <- other:
	case <-far.done:
		return nil, errors.New("refused")
	}
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.conns = append(e.net.conns, near, other)
	return near, nil
}

func (e *pipeEnd) Close() error {
	e.once.Do(func() { close(e.done) })
	e.net.cut(true)
	return nil
}

// sending is a leader that is the only voter, and a non-voter that responds as the test
// sets it. It is for tests in virtual time.
type sending struct {
	*raft.Raft
	net *pipeNet
	end func()

	mu     sync.Mutex
	last   uint64        // the newest entry of the member
	slow   time.Duration // how long it takes for each request with entries
	reject bool          // it cannot append
	count  int           // of rejected requests
}

// startSending starts one. wrap makes the transport of the leader.
func startSending(t *testing.T, wrap func(p failFastTransport) raft.Transport) *sending {
	t.Helper()
	s := &sending{net: newPipeNet()}
	near, far := s.net.open("leader"), s.net.open("member")
	o := newRequestFilter(noHeartbeatFastPath{near}, discard)
	c := testConfig("leader")
	logs, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	members := raft.Configuration{Servers: []raft.Server{{ID: "leader", Address: "leader"}, {ID: "member", Address: "member", Suffrage: raft.Nonvoter}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, o, members); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.Raft, err = raft.NewRaft(c, &raft.MockFSM{}, logs, logs, snaps, wrap(failFastTransport{o})); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { o.Serve(func() bool { return s.State() == raft.Leader }) })
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case rpc := <-far.Consumer():
				if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
					rpc.Respond(s.answer(req), nil)
				} else {
					rpc.Respond(nil, errors.New("it takes entries only"))
				}
			case <-stop:
				return
			}
		}
	})
	s.end = func() {
		if err := s.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		o.Stop()
		close(stop)
		_ = far.Close()
		wg.Wait()
	}
	<-s.LeaderCh()
	return s
}

func (s *sending) answer(req *raft.AppendEntriesRequest) *raft.AppendEntriesResponse {
	resp := &raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, NoRetryBackoff: true}
	if req.PrevLogEntry == 0 && len(req.Entries) == 0 { // a heartbeat
		resp.Success = true
		return resp
	}
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	<-time.After(slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := len(req.Entries); {
	case s.reject:
		s.count++
	case req.PrevLogEntry <= s.last:
		resp.Success = true
		if n > 0 {
			s.last = req.Entries[n-1].Index
		}
	}
	resp.LastLog = s.last
	return resp
}

// change sets what the member does.
func (s *sending) change(slow time.Duration, reject bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow, s.reject = slow, reject
}

func (s *sending) rejected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// behind reports whether the member does not have all entries of the leader.
func (s *sending) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last < s.LastIndex()
}

// caughtUp waits until the member is not behind, and returns how long it took.
func (s *sending) caughtUp(limit time.Duration) (took time.Duration) {
	for began := time.Now(); took < limit && s.behind(); took = time.Since(began) {
		<-time.After(10 * time.Millisecond)
	}
	return took
}
