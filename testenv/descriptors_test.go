package testenv

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fewDescriptors are those that an agent has in these tests.
const fewDescriptors = 256

// descriptors is how many the agent's process has open.
func (a *Agent) descriptors() int {
	a.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.proc.Pid()))
	if err != nil {
		a.t.Fatal(err)
	}
	return len(open)
}

// TestFloodOfEachPort: an agent may have 256 file descriptors, and somebody opens more
// connections than that to one of its ports and keeps them. Reads of the local API go on,
// and changes too; health names the port.
func TestFloodOfEachPort(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"local", "admin", "cluster", "mqtt"} {
		t.Run(port, func(t *testing.T) {
			t.Parallel()
			a := NewAgent(t, "CONFIG_MQTT_ADDR="+loopback(FreePorts(t, 1)[0]))
			few := filepath.Join(t.TempDir(), "holdfast")
			if err := os.WriteFile(few, []byte("#!/bin/sh\nulimit -n "+strconv.Itoa(fewDescriptors)+"\nexec "+a.bin+" \"$@\"\n"), 0o755); err != nil { //nolint:gosec // a program
				t.Fatal(err)
			}
			a.Use(few)
			a.Start()
			a.AwaitNormal()
			a.AwaitServing("router")
			addr := map[string]string{"local": a.LocalAddr, "admin": a.AdminAddr, "cluster": a.env["CONFIG_CLUSTER_ADDR"], "mqtt": a.env["CONFIG_MQTT_ADDR"]}[port]
			most := 0
			for i := range 400 {
				if i%20 == 0 {
					most = max(most, a.descriptors())
				}
				// From many addresses: what one may have is bounded besides.
				from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100))}}
				c, err := from.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close() //nolint:gocritic // all of them, at the end
				if port == "mqtt" || port == "cluster" {
					continue
				}
				if _, err := fmt.Fprintf(c, "GET /%d", i); err != nil { // half a request
					continue // rejected by now
				}
			}
			if most = max(most, a.descriptors()); most > fewDescriptors-20 {
				t.Errorf("the flood of the %s port left %d of %d file descriptors", port, fewDescriptors-most, fewDescriptors)
			}
			for range 50 {
				if r := a.Local("/v1/config/router"); r.Err != nil || r.Status != http.StatusOK {
					t.Fatalf("a local read during the flood of the %s port: %s", port, r)
				}
			}
			a.Patch("router", `{"router_stream_min_chars":44}`)
			if port == "mqtt" { // the others make room by closing the oldest connection
				Await(t, "health to name the port", func() bool {
					h, ok := a.Health()
					return ok && h.OK && h.Err != nil && strings.Contains(*h.Err, "the mqtt port has as many connections as it may")
				})
				if m := string(a.Local("/metrics").Body); strings.Contains(m, `holdfast_port_rejected_total{port="mqtt"} 0`) || !strings.Contains(m, `holdfast_port_rejected_total{port="mqtt"}`) {
					t.Error("the rejected connections are not counted")
				}
			}
			if strings.Contains(a.Log(), "too many open files") {
				t.Errorf("the agent ran out of file descriptors:\n%s", a.log.Tail(20))
			}
		})
	}
}
