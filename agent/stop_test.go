package agent_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
)

// No client can hold up a stop: not with half a request on any port, nor with a stream
// that it does not read, nor with a long poll.
func TestStopWithHalfSentRequests(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
	o.MQTTAddr = "127.0.0.1:0"
	r := start(t, o).ready()
	if code, body := r.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	_, header, _ := r.Call("GET", r.Info().LocalURL+"/v1/config/demo", "")
	polled := make(chan int, 1)
	go func() {
		code, _, _ := r.Call("GET", r.Info().LocalURL+"/v1/config/demo?wait=4m", "", "If-None-Match", header.Get("Etag"))
		polled <- code
	}()
	r.Await("the long poll", func() bool {
		_, _, metrics := r.Call("GET", r.Info().LocalURL+"/metrics", "")
		return strings.Contains(metrics, `{kind="poll"} 1`)
	})

	host := func(url string) string { return strings.TrimPrefix(url, "http://") }
	dial := func(addr, sent string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin, local := host(r.Info().AdminURL), host(r.Info().LocalURL)
	body := " /api/config/services/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Token: " + testenv.WriteToken + "\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n"
	ask100 := func(c net.Conn) { // then the handler reads the body
		t.Helper()
		line := make([]byte, len("HTTP/1.1 100"))
		if _, err := io.ReadFull(c, line); err != nil || string(line) != "HTTP/1.1 100" {
			t.Fatalf("%q %v", line, err)
		}
	}
	dial(admin, "GET /api/config/heal")
	ask100(dial(admin, "PATCH"+body))
	dial(local, "GET /v1/config/de")
	stream := dial(local, "GET /v1/watch/demo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if _, err := io.ReadFull(stream, make([]byte, 15)); err != nil {
		t.Fatal(err)
	}
	dial(host(strings.TrimPrefix(r.Info().MQTT, "mqtt://")), "\x10\x20\x00\x04MQ")
	dial(r.Info().Cluster, "\x16\x03\x01\x02")
	join, err := tls.Dial("tcp", r.Info().Cluster, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{transport.ProtoJoin}}) //nolint:gosec // a stranger
	if err != nil {
		t.Fatal(err)
	}
	defer join.Close()
	if _, err := io.WriteString(join, "POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	// Five seconds is what is promised. Clients may take 1.5 s of them; the rest is far more
	// than the agent has to do on a busy machine, and far less than any timeout of a port.
	began := time.Now()
	r.Stop()
	took := time.Since(began)
	if took > 5*time.Second {
		t.Errorf("the stop took %v", took)
	}
	t.Logf("the stop took %v", took)
	if code := <-polled; code != http.StatusNotModified {
		t.Errorf("the long poll: %d", code)
	}
	data, err := os.ReadFile(o.LKGPath)
	if err != nil || !strings.Contains(string(data), `"level":42`) {
		t.Errorf("the last-known-good file: %v %s", err, data)
	}
}
