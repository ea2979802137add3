package agent_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv"
)

// The ports give a header 5 s and a body 20 s. What they would not cut they would
// hold permanently, so that these bounds may be wide.
const withinHead, withinBody = 30 * time.Second, time.Minute

// TestSlowClients holds connections open in every way that a slow client can. Each
// of them is cut in time, and the ports answer others meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, nil)).ready()
	admin, local := strings.TrimPrefix(r.Info().AdminURL, "http://"), strings.TrimPrefix(r.Info().LocalURL, "http://")
	const token = "X-API-Token: " + testenv.WriteToken + "\r\n"
	type slow struct {
		name, addr, first, drip string
		within                  time.Duration
	}
	var all []slow
	for name, addr := range map[string]string{"admin": admin, "local": local, "cluster": r.Info().Cluster} {
		all = append(all,
			slow{name + ": says nothing", addr, "", "", withinHead},
			slow{name + ": half of a request line", addr, "GET /v1/con", "", withinHead},
			slow{name + ": headers for ever", addr, "GET / HTTP/1.1\r\nHost: localhost\r\n", "X-A: b\r\n", withinHead})
	}
	all = append(all,
		slow{"admin: a body that does not come", admin, "PATCH /api/config/services/demo HTTP/1.1\r\nHost: localhost\r\n" + token + "Content-Length: 100\r\n\r\n{", "", withinBody},
		slow{"admin: a body drop by drop", admin, "PATCH /api/config/services/demo HTTP/1.1\r\nHost: localhost\r\n" + token + "Content-Length: 10000\r\n\r\n{", " ", withinBody},
		slow{"admin: a body without a token", admin, "PATCH /api/config/services/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n{", " ", withinBody},
		slow{"admin: chunks for ever", admin, "POST /api/config/search HTTP/1.1\r\nHost: localhost\r\n" + token + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", withinBody},
		slow{"local: a body of a POST", local, "POST /v1/config/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n", " ", withinHead},
		slow{"local: chunks", local, "GET /v1/config/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", withinHead},
		slow{"local: a body", local, "GET /v1/config/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n", " ", withinHead},
	)
	done := make(chan string, len(all))
	for _, s := range all {
		go func() { done <- s.name + " " + holdOn(s.addr, s.first, s.drip, s.within) }()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	answered := 0
	for left := len(all); left > 0; {
		select {
		case how := <-done:
			left--
			if !strings.HasSuffix(how, " cut") {
				t.Error(how)
			}
		case <-tick.C:
			if code, _, _ := r.Call("GET", r.Info().AdminURL+"/api/config/me", "", "X-API-Token", testenv.ReadToken); code != http.StatusOK {
				t.Errorf("meanwhile the admin port answers %d", code)
			}
			if v, _ := r.level(); v == "" {
				t.Error("meanwhile the local port does not answer")
			}
			answered++
		}
	}
	if answered < 20 {
		t.Errorf("only %d answers meanwhile", answered)
	}
}

// holdOn keeps a connection busy until the other side ends it.
func holdOn(addr, first, drip string, within time.Duration) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close() //nolint:errcheck // it is cut by then
	start := time.Now()
	_ = c.SetDeadline(start.Add(within + 5*time.Second))
	if _, err := io.WriteString(c, first); err != nil {
		return err.Error()
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, bufio.NewReader(c))
	}()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			if took := time.Since(start); took > within {
				return fmt.Sprintf("held for %v", took)
			}
			return "cut"
		case <-tick.C:
			if drip == "" {
				continue
			}
			if _, err := io.WriteString(c, drip); err != nil {
				<-over
				return "cut"
			}
		}
	}
}
