package testenv

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// LoadOptions say who does what to a cluster while a test breaks it.
type LoadOptions struct {
	Services int           // how many registers; default 3
	Clients  int           // writers that also read consistently; default 4
	Pause    time.Duration // of each client between two operations; default 5 ms
	Seed     uint64
	Retry    bool // an unknown outcome is asked for again, with the same Idempotency-Key
}

// Load is clients that work with a cluster, and readers and watchers at each of
// its agents, all of whom note what they see in a History.
type Load struct {
	*History
	t        testing.TB
	c        *Cluster
	o        LoadOptions
	services []string
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	http     *http.Client
	stalls   stalls
}

// stalls notes when this process, and with it the machine, stood still: what took
// long then says nothing about the agents.
type stalls struct {
	mu   sync.Mutex
	last time.Time // the end of the last one
}

const stallTick = 50 * time.Millisecond

func (s *stalls) run(ctx context.Context) {
	for tick := time.NewTicker(stallTick); ; {
		before := time.Now()
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if time.Since(before) > time.Second {
			s.mu.Lock()
			s.last = time.Now()
			s.mu.Unlock()
		}
	}
}

// stalled says whether the machine stood still since t.
func (l *Load) stalled(t time.Time) bool {
	l.wait(2 * stallTick) // until a stall that has just ended is noted
	l.stalls.mu.Lock()
	defer l.stalls.mu.Unlock()
	return l.stalls.last.After(t)
}

// registerSchema is the schema of a register.
const registerSchema = `{"type":"object","properties":{"v":{"type":"string"}}}`

// StartLoad begins. All nodes that the cluster has by now are worked with.
func StartLoad(t testing.TB, c *Cluster, o LoadOptions) *Load {
	t.Helper()
	if o.Services == 0 {
		o.Services = 3
	}
	if o.Clients == 0 {
		o.Clients = 4
	}
	if o.Pause == 0 {
		o.Pause = 5 * time.Millisecond
	}
	l := &Load{History: NewHistory(), t: t, c: c, o: o, http: &http.Client{
		Timeout:   12 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 5 * time.Second},
	}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(l.Stop)
	for i := range o.Services {
		s := fmt.Sprintf("reg-%d", i)
		c.putSchema(s, registerSchema)
		l.services = append(l.services, s)
	}
	for _, n := range c.Live() {
		for _, s := range l.services {
			n.AwaitServing(s)
		}
	}
	l.wg.Go(func() { l.stalls.run(l.ctx) })
	for i := range o.Clients {
		l.wg.Go(func() { l.client(i) })
	}
	for i, n := range c.Nodes {
		l.wg.Go(func() { l.read(n, rand.New(rand.NewPCG(o.Seed, uint64(100+i)))) })
		l.wg.Go(func() { l.watch(n, l.services[i%len(l.services)]) })
	}
	return l
}

// Stop ends all clients. It may be called again.
func (l *Load) Stop() {
	l.stop()
	l.wg.Wait()
	l.http.CloseIdleConnections()
}

// putSchema makes a service, once there is a leader to do it.
func (c *Cluster) putSchema(service, schema string) {
	c.t.Helper()
	var r Reply
	if !poll(Patience, func() bool {
		r = c.Leader().Admin("PUT", "/api/config/schemas/"+service, schema, "Content-Type: application/json")
		return r.Status == http.StatusOK
	}) {
		c.t.Fatalf("the schema of %s: %s", service, r)
	}
}

// wait is the pause between two operations; false when the load ends.
func (l *Load) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// client works with registers through agents that it picks at random.
func (l *Load) client(id int) {
	r := rand.New(rand.NewPCG(l.o.Seed, uint64(id)))
	versions := map[string]uint64{}
	for i := 0; l.wait(time.Duration(r.Int64N(int64(2 * l.o.Pause)))); i++ {
		live := l.c.Live()
		if len(live) == 0 {
			continue
		}
		n := live[r.IntN(len(live))]
		in := input{service: l.services[r.IntN(len(l.services))], value: fmt.Sprintf("c%d-%d", id, i)}
		in.expect = versions[in.service]
		switch k := r.IntN(100); {
		case k < 35:
			in.op = opGet
		case k < 65:
			in.op = opPatch
		case k < 95:
			in.op = opPut
		default:
			in.op = opDelete
		}
		unknown := l.Unknown()
		versions[in.service] = l.Do(id, n, in)
		if l.Unknown() > unknown && !l.wait(lostAnswerPause) {
			return
		}
	}
}

// lostAnswerPause is how long clients rest when an answer was lost. A network that
// resets every connection would have them lose hundreds in a second, and what is
// unknown to so many says little of what is true.
const lostAnswerPause = 200 * time.Millisecond

// Do carries one operation out at a node and notes it. It returns the version
// that the register has now, as far as the answer tells.
func (l *Load) Do(id int, n *Node, in input) uint64 {
	call := l.now()
	key := fmt.Sprintf("client-%d-%d", id, call)
	out, definite := l.try(n, in, key)
	for again := 0; l.o.Retry && out.unknown && in.op != opGet && again < 20 && l.wait(100*time.Millisecond); again++ {
		live := l.c.Live()
		if len(live) == 0 {
			continue
		}
		// What was refused this time may still have been carried out the time before.
		if next, sure := l.try(live[again%len(live)], in, key); sure {
			out, definite = next, sure
			l.count("repeated after a lost answer")
		}
	}
	if !definite && !out.unknown {
		if in.op != opGet {
			l.refuse(in.value, fmt.Sprintf("%s at %s in version %d: %s", in.op, n.ID, in.expect, out.value))
		}
		return in.expect // nothing happened, and it said so
	}
	l.add(id, in, call, out)
	if out.unknown {
		return in.expect
	}
	if out.version == 0 {
		return in.expect
	}
	return out.version
}

// try sends one request. An answer is definite when it tells what the register did; when it is not
// definite and not unknown either, the request was refused and did nothing.
func (l *Load) try(n *Node, in input, key string) (out output, definite bool) {
	method, path, body := "PATCH", "/api/config/services/"+in.service, fmt.Sprintf(`{"v":%q}`, in.value)
	switch in.op {
	case opGet:
		method, path, body = "GET", path+"?consistent=1", ""
	case opPut:
		method, body = "PUT", fmt.Sprintf(`{"service":%q,"config":{"v":%q},"version":%d}`, in.service, in.value, in.expect)
	case opDelete:
		method, path, body = "DELETE", fmt.Sprintf("%s?version=%d", path, in.expect), ""
	}
	life, _ := n.Alive()
	r := l.request(method, "http://"+n.AdminAddr+path, body, "X-API-Token", WriteToken, "Content-Type", "application/json", "Idempotency-Key", key)
	if r.Err != nil {
		if now, up := n.Alive(); up && now == life && l.ctx.Err() == nil && !refusedConn(r.Err) {
			l.count("lost answers of live agents")
		}
		return output{unknown: !refusedConn(r.Err), value: r.Err.Error()}, false
	}
	switch f := r.Failure(); {
	case r.Status == http.StatusOK && in.op == opGet:
		var d conf.ReadResponse
		if json.Unmarshal(r.Body, &d) != nil {
			l.Problem("an answer that does not decode: %s", r)
			return output{unknown: true}, false
		}
		return output{ok: true, version: d.Metadata.Version, value: valueOf(d.Config)}, true
	case r.Status == http.StatusOK:
		var d struct {
			NewVersion uint64 `json:"new_version"`
		}
		if json.Unmarshal(r.Body, &d) != nil || d.NewVersion == 0 {
			l.Problem("an answer that does not decode: %s", r)
			return output{unknown: true}, false
		}
		return output{ok: true, version: d.NewVersion}, true
	case r.Status == http.StatusConflict && f.CurrentVersion != 0:
		return output{version: f.CurrentVersion}, true
	case r.Status == http.StatusNotFound && (in.op == opGet || in.op == opDelete):
		return output{}, true
	case r.Status == http.StatusGatewayTimeout && f.Code == conf.CodeOutcomeUnknown:
		return output{unknown: true}, false
	case r.Status == http.StatusServiceUnavailable && (f.Code == conf.CodeNoQuorum || f.Code == conf.CodeReadOnly || f.Code == conf.CodeStale):
		return output{value: fmt.Sprintf("%s: %s", f.Code, f.Error)}, false
	default:
		l.Problem("%s %s at %s: an answer that says nothing: %s", method, path, n.ID, r)
		return output{unknown: true}, false
	}
}

func (l *Load) request(method, url, body string, headers ...string) Reply {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(l.ctx, method, url, rd)
	if err != nil {
		return Reply{Err: err}
	}
	if method != http.MethodGet {
		// With an Idempotency-Key net/http would send it again by itself, and tell of
		// the second attempt only.
		req.Body, req.GetBody = io.NopCloser(strings.NewReader(body)), nil
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return Reply{Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Reply{Status: resp.StatusCode, Header: resp.Header, Body: data, Err: err}
}

func refusedConn(err error) bool { return strings.Contains(err.Error(), "connection refused") }

func valueOf(config json.RawMessage) string {
	var v struct {
		V string `json:"v"`
	}
	_ = json.Unmarshal(config, &v)
	return v.V
}

// read reads the local API of a node again and again. While the node is to
// answer, each read must succeed; and no process ever goes back.
func (l *Load) read(n *Node, r *rand.Rand) {
	for l.wait(4 * time.Millisecond) {
		life, ok := n.Alive()
		if !ok {
			continue
		}
		s := l.services[r.IntN(len(l.services))]
		began := time.Now()
		reply := l.request("GET", "http://"+n.LocalAddr+"/v1/config/"+s, "")
		if now, _ := n.Alive(); now != life || l.ctx.Err() != nil {
			continue // its end, or a pause, came in between
		}
		l.count("reads")
		switch took := time.Since(began); {
		case took > 2*time.Second && l.stalled(began):
			l.count("reads while the machine stood still")
			if reply.Err != nil {
				continue
			}
		case took > 10*time.Second:
			l.Problem("a local read at %s took %v", n.ID, took)
		case took > 2*time.Second: // by itself it may be the machine that was busy
			l.count("slow reads")
		}
		var d struct {
			conf.ReadResponse
			Error string `json:"error"`
		}
		stream := fmt.Sprintf("reads at %s, life %d, of %s in epoch ", n.ID, life, s)
		switch {
		case reply.Err == nil && reply.Status == http.StatusOK && json.Unmarshal(reply.Body, &d) == nil:
			l.observe(stream+d.Metadata.Epoch, s, d.Metadata.Version, valueOf(d.Config), false)
		case reply.Err == nil && reply.Status == http.StatusNotFound && strings.Contains(string(reply.Body), "deleted"):
			l.count("reads of a deleted service")
		default:
			l.count("failed reads")
			l.Problem("a local read of %s at %s failed: %s", s, n.ID, reply)
		}
	}
}

// watch follows one service at a node. What it is told is strictly newer each time.
func (l *Load) watch(n *Node, service string) {
	stream := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for nth := 0; l.wait(20 * time.Millisecond); nth++ {
		life, ok := n.Alive()
		if !ok {
			continue
		}
		req, err := http.NewRequestWithContext(l.ctx, "GET", "http://"+n.LocalAddr+"/v1/watch/"+service, nil)
		if err != nil {
			return
		}
		resp, err := stream.Do(req)
		if err != nil {
			continue
		}
		l.follow(resp.Body, fmt.Sprintf("watch %d at %s, life %d, of %s in epoch ", nth, n.ID, life, service), service)
		_ = resp.Body.Close()
	}
}

func (l *Load) follow(body io.Reader, stream, service string) {
	event := ""
	for lines := bufio.NewScanner(body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "data":
			var d struct {
				conf.ReadResponse
				Version uint64 `json:"version"`
			}
			if json.Unmarshal([]byte(value), &d) != nil || event != "config" {
				continue
			}
			l.count("watch events")
			l.observe(stream+d.Metadata.Epoch, service, d.Metadata.Version, valueOf(d.Config), true)
		}
	}
}

// Unknown is how many operations have an outcome that their clients do not know.
func (l *Load) Unknown() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unknown
}

// Acknowledged is how many writes were acknowledged.
func (l *Load) Acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts["acknowledged"]
}

// AwaitWrites waits until count more writes were acknowledged: the cluster works.
func (l *Load) AwaitWrites(count int) {
	l.t.Helper()
	before := l.Acknowledged()
	Await(l.t, fmt.Sprintf("%d more acknowledged writes", count), func() bool { return l.Acknowledged() >= before+count })
}

// Linger lets the clients work for some time.
func (l *Load) Linger(d time.Duration) { l.wait(d) }
