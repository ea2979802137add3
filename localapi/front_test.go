package localapi

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

var (
	frontCases = flag.Int("front-cases", 3000, "cases of TestFrontDifferential")
	frontSeed  = flag.Uint64("front-seed", 0, "its seed; 0 is the time")
)

// script is a connection whose client sends the chunks, each for one read at least, and
// then nothing more, and takes everything.
type script struct {
	mu     sync.Mutex
	chunks [][]byte
	out    []byte
	closed bool
	done   chan struct{}
}

func newScript(chunks [][]byte) *script {
	return &script{chunks: slices.Clone(chunks), done: make(chan struct{})}
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.chunks[0])
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.out = append(s.out, p...)
	return len(p), nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	return nil
}

var scriptAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2770}

func (s *script) LocalAddr() net.Addr              { return scriptAddr }
func (s *script) RemoteAddr() net.Addr             { return scriptAddr }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// twoPaths are two servers of the same documents, one with a front.
type twoPaths struct {
	servers [2]*Server
	ports   [2]*pipes
	docs    [2]*memory
	tags    []string // ETags of the documents
}

func newTwoPaths(t testing.TB) *twoPaths {
	none := record("unset", 1, `{}`)
	none.Config = nil
	p := &twoPaths{}
	for i := range p.servers {
		src := newMemory()
		src.render = &Renderer{Secrets: func(service string, _ *conf.Record) map[string]any {
			if service == "vault" {
				return map[string]any{"password": "hunter2"}
			}
			return nil
		}}
		for _, r := range []*conf.Record{
			record("stt-worker", 7, sttConfig), record("a", 1, `{}`), record("vault", 3, `{"user":"x"}`), tombstone("gone", 4), none,
			record("large", 9, `{"text":"`+strings.Repeat("large ", 6000)+`"}`),
		} {
			src.set(r)
		}
		p.docs[i] = src
		p.servers[i] = newServer(t, src, withToken, func(o *Options) {
			o.Front = i == 1
			o.Health = func() conf.Health { return conf.Health{} }
			o.AllowedHosts = []string{"agent.internal"}
		})
		p.ports[i] = newPipes()
		serve(t, p.servers[i], p.ports[i])
	}
	for _, name := range []string{"stt-worker", "a", "large"} {
		d, _, _ := p.docs[0].Get(name)
		p.tags = append(p.tags, d.plain.tag)
	}
	return p
}

// reads are what has been read at a server since the last call.
func (p *twoPaths) reads(i int) string {
	var b strings.Builder
	for _, name := range p.docs[i].Names() {
		d, _, _ := p.docs[i].Get(name)
		fmt.Fprintf(&b, "%s %q\n", name, d.TakeReads())
	}
	return b.String()
}

// ask gives both servers the same bytes, in chunks of their own, and returns what each
// wrote until it closed the connection.
func (p *twoPaths) ask(chunks [2][][]byte) (out [2][]byte, err error) {
	var conns [2]*script
	for i := range conns {
		conns[i] = newScript(chunks[i])
		p.ports[i].conns <- conns[i]
	}
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for i, c := range conns {
		select {
		case <-c.done:
		case <-patience.C:
			return out, fmt.Errorf("path %d does not end", i)
		}
		if out[i], err = maskDates(c.out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// maskDates replaces the time in Date headers, when it is the present.
func maskDates(b []byte) ([]byte, error) {
	const name = "\r\nDate: "
	for i := 0; ; {
		k := bytes.Index(b[i:], []byte(name))
		if k < 0 {
			return b, nil
		}
		i += k + len(name)
		if len(b) < i+len(http.TimeFormat) {
			return b, errors.New("a Date that is cut off")
		}
		value := b[i : i+len(http.TimeFormat)]
		at, err := time.Parse(http.TimeFormat, string(value))
		if err != nil || time.Since(at) > time.Minute || time.Until(at) > 2*time.Second {
			return b, fmt.Errorf("Date %q: %w", value, err)
		}
		for j := range value {
			value[j] = '#'
		}
	}
}

// compare fails when the two paths do not answer the bytes alike.
func (p *twoPaths) compare(t testing.TB, data []byte, random *rand.Rand) bool {
	chunks := [2][][]byte{split(data, random), split(data, random)}
	out, err := p.ask(chunks)
	if err == nil && bytes.Equal(out[0], out[1]) {
		return true
	}
	t.Errorf("not the same for\n%q\nin the pieces %q\nnet/http: %.2000q\nfront:    %.2000q\n%v", data, chunks[1], out[0], out[1], err)
	return false
}

// split cuts at random places, seldom everywhere.
func split(data []byte, random *rand.Rand) (out [][]byte) {
	cuts := 0
	switch random.IntN(4) {
	case 0:
		cuts = 1 + random.IntN(3)
	case 1:
		cuts = random.IntN(12)
	}
	rest := bytes.Clone(data)
	if len(rest) < 400 && random.IntN(40) == 0 {
		for len(rest) > 1 {
			out, rest = append(out, rest[:1]), rest[1:]
		}
	}
	for ; cuts > 0 && len(rest) > 1; cuts-- {
		n := 1 + random.IntN(len(rest)-1)
		out, rest = append(out, rest[:n]), rest[n:]
	}
	if len(rest) > 0 {
		out = append(out, rest)
	}
	return out
}

// counters are all that the two paths count.
func (p *twoPaths) counters(i int) string {
	m := p.servers[i].metrics
	var b strings.Builder
	fmt.Fprintln(&b, "panics", m.panics.Load())
	for r := range m.requests {
		for k := range statuses {
			fmt.Fprintln(&b, routeNames[r], statuses[k], m.requests[r][k].Load())
		}
	}
	for k := range m.rejected {
		fmt.Fprintln(&b, rejectReasonNames[k], m.rejected[k].Load())
	}
	return b.String()
}

// TestFrontDifferential sends the same bytes to an agent's local API with and without the
// front: requests as clients write them, unusual ones, and garbage between them.
func TestFrontDifferential(t *testing.T) {
	t.Parallel()
	p := newTwoPaths(t)
	seed := *frontSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-front-seed=%d", seed)
	const workers = 8
	var wg sync.WaitGroup
	var made, failed atomic.Int64
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			g := generator{random, p.tags}
			for made.Add(1) <= int64(*frontCases) && failed.Load() < 5 {
				if !p.compare(t, g.stream(), random) {
					failed.Add(1)
				}
				if n := made.Load(); n%1_000_000 == 0 {
					t.Logf("%d cases", n)
				}
			}
		})
	}
	wg.Wait()
	without, with := p.counters(0), p.counters(1)
	if without != with {
		t.Errorf("counters differ:\n%s\nwith the front:\n%s", without, with)
	}
	t.Logf("%d cases; %s", min(made.Load()-workers, int64(*frontCases)), strings.ReplaceAll(strings.SplitN(with, "\n", 4)[1], "\n", ", "))
}

func FuzzFront(f *testing.F) {
	for _, c := range smuggling {
		f.Add([]byte(c.bytes), uint64(1))
	}
	g := generator{rand.New(rand.NewPCG(1, 2)), []string{`"7-x"`}}
	for range 50 {
		f.Add(g.stream(), g.Uint64())
	}
	p := newTwoPaths(f)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) > 12<<10 || bytes.Contains(data, []byte("/metrics")) || bytes.Contains(data, []byte("/v1/watch")) {
			return // counters, and streams that end when they notice
		}
		p.compare(t, data, rand.New(rand.NewPCG(seed, 1)))
	})
}

// TestFrontCorpus sends each request of the corpus in one piece, byte by byte, and cut at
// each place.
func TestFrontCorpus(t *testing.T) {
	t.Parallel()
	p := newTwoPaths(t)
	for _, c := range smuggling {
		t.Run(c.name, func(t *testing.T) {
			whole := [][]byte{[]byte(c.bytes)}
			if c.bytes == "" {
				whole = nil
			}
			pieces := [][][]byte{whole, nil}
			for i := range len(c.bytes) {
				pieces[1] = append(pieces[1], []byte(c.bytes[i:i+1]))
				if i > 0 {
					pieces = append(pieces, [][]byte{[]byte(c.bytes[:i]), []byte(c.bytes[i:])})
				}
			}
			want := ""
			for _, chunks := range pieces {
				out, err := p.ask([2][][]byte{whole, chunks})
				if err != nil || !bytes.Equal(out[0], out[1]) {
					t.Fatalf("not the same in the pieces %q\nnet/http: %q\nfront:    %q\n%v", chunks, out[0], out[1], err)
				}
				if without, with := p.reads(0), p.reads(1); without != with {
					t.Fatalf("noted as read:\n%s\nwith the front:\n%s", without, with)
				}
				if want == "" {
					want = string(out[0])
				} else if want != string(out[0]) {
					t.Fatalf("not the same twice: %q and %q", want, out[0])
				}
			}
		})
	}
}
