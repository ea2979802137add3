package agent_test

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/mutate"
)

var mutations = flag.Int("mutations", 2000, "requests of TestMutatedClusterRequests")

// clusterSeeds are what members ask of each other.
func clusterSeeds(t *testing.T) []mutate.Seed {
	t.Helper()
	post := func(path string, v any) mutate.Seed {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return mutate.Seed{Method: "POST", Target: path, Body: string(data), Header: []string{"Content-Type: application/json"}}
	}
	return []mutate.Seed{
		{Method: "GET", Target: "/status"},
		{Method: "GET", Target: "/readindex"},
		{Method: "GET", Target: "/digest?index=12"},
		post("/hello", command.Member{NodeID: "side", Role: "sidecar", Service: "demo", Addr: "127.0.0.1:1"}),
		post("/access", command.Audit{Rows: []conf.Access{{UserID: "a", Action: "read", Timestamp: "2026-01-02T03:04:05+00:00"}}, Source: "s", Seq: 1}),
		post("/leave", struct{}{}), post("/rejoin", json.RawMessage(`{"csr":null,"advertise":"","service":"","version":"","reason":""}`)), post("/retire", json.RawMessage(`{"node_id":""}`)), post("/join", transport.JoinRequest{}),
		{Method: "PATCH", Target: "/api/config/services/demo", Body: `{"level":3}`, Header: []string{"X-API-Token: " + testenv.WriteToken}},
		{Method: "GET", Target: "/api/config/services/demo?consistent=1", Header: []string{"X-API-Token: " + testenv.ReadToken}},
	}
}

// TestMutatedClusterRequests hands the cluster's own requests over, changed at
// random, as a member with a good certificate could. The agent leads, and goes on
// to. Run it with -mutations 1000000.
func TestMutatedClusterRequests(t *testing.T) {
	r := start(t, testenv.Options(t, nil)).ready()
	m := mutate.New(3, clusterSeeds(t))
	statuses := map[int]int{}
	for i := range *mutations {
		p := pki.Peer{NodeID: "side", Role: pki.RoleSidecar}
		if i%2 == 0 {
			p = pki.Peer{NodeID: "n2", Role: pki.RoleServer}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		req := m.Next(transport.WithPeer(ctx, p))
		what := mutate.Describe(req)
		if strings.HasPrefix(req.URL.Path, "/hello") || strings.HasPrefix(req.URL.Path, "/leave") {
			// Both are obeyed, and would make this a cluster that cannot work.
			req.Body = http.NoBody
		}
		w := httptest.NewRecorder()
		r.Rooms().Cluster.Routes().ServeHTTP(w, req)
		late := ctx.Err() != nil // the machine stalled, and the request was given up
		cancel()
		statuses[w.Code]++
		if w.Code == 500 && !late {
			t.Fatalf("request %d: %d %s\n%s", i, w.Code, w.Body, what)
		}
	}
	t.Logf("%d requests: %v", *mutations, statuses)
	r.Await("a change after all of them", func() bool { code, _ := r.set("42"); return code == 200 })
}

// TestMutatedBytes sends what is no HTTP at all to every port.
func TestMutatedBytes(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, nil)).ready()
	good := "PATCH /api/config/services/demo HTTP/1.1\r\nHost: localhost\r\nX-API-Token: " + testenv.WriteToken + "\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"level\":3}" +
		"GET /v1/config/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	rng := rand.New(rand.NewPCG(4, 4))
	count := min(*mutations/10, 20_000)
	for _, addr := range []string{strings.TrimPrefix(r.Info().AdminURL, "http://"), strings.TrimPrefix(r.Info().LocalURL, "http://"), r.Info().Cluster} {
		for range count {
			raw := []byte(good)
			for range 1 + rng.IntN(8) {
				switch at := rng.IntN(len(raw)); rng.IntN(3) {
				case 0:
					raw[at] = byte(rng.IntN(256))
				case 1:
					raw = append(raw[:at:at], append([]byte{"\r\n\x00\xff: \t"[rng.IntN(7)]}, raw[at:]...)...)
				default:
					raw = append(raw[:at:at], raw[min(len(raw), at+rng.IntN(20)):]...)
				}
				if len(raw) == 0 {
					raw = []byte{0}
				}
			}
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(testenv.Patience))
			_, _ = c.Write(raw)
			_ = c.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(io.LimitReader(c, 1<<20))
			_ = c.Close()
			if strings.HasPrefix(string(answer), "HTTP/1.1 5") && !strings.HasPrefix(string(answer), "HTTP/1.1 50") || strings.HasPrefix(string(answer), "HTTP/1.1 500") {
				t.Fatalf("%.200q\nanswered\n%.200s", raw, answer)
			}
		}
	}
	r.Await("a change after all of them", func() bool { code, _ := r.set("42"); return code == 200 })
}
