package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// fanout connects n raw QoS 1 subscribers to addr. send publishes version v; lap
// returns how long it took until the last of them had it.
func fanout(b *testing.B, addr net.Addr, n int, send func(v uint64)) (lap func(v uint64) time.Duration) {
	b.Helper()
	var mu sync.Mutex
	got, want := 0, n
	var version []byte
	all := make(chan time.Time, 1)
	clients := make([]*raw, n)
	var readers sync.WaitGroup
	for i := range clients {
		c := dial(b, addr, 4)
		c.connect(fmt.Sprint("fan", i))
		c.subscribe(1, "system/config/fan")
		clients[i] = c
		readers.Go(func() {
			for {
				_ = c.nc.SetDeadline(time.Time{})
				pk, err := readFrom(c.r, 4)
				if err != nil {
					return
				}
				if pk.FixedHeader.Type != packets.Publish {
					continue
				}
				_, _ = c.nc.Write([]byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
				mu.Lock()
				if version != nil && bytes.Contains(pk.Payload, version) {
					if got++; got == want {
						all <- time.Now()
					}
				}
				mu.Unlock()
			}
		})
	}
	b.Cleanup(func() {
		for _, c := range clients {
			_ = c.nc.Close()
		}
		readers.Wait()
	})
	return func(v uint64) time.Duration {
		mu.Lock()
		got, version = 0, fmt.Appendf(nil, `{"n":%d}`, v)
		mu.Unlock()
		began := time.Now()
		send(v)
		select {
		case end := <-all:
			return end.Sub(began)
		case <-time.After(patient):
			b.Fatalf("%d of %d subscribers got it", got, want)
			return 0
		}
	}
}

// TestBrokerProcess is not a test: it is the broker that brokerProcess starts.
func TestBrokerProcess(t *testing.T) {
	if os.Getenv("HOLDFAST_BROKER_PROCESS") == "" {
		return
	}
	src := newSource(record("fan", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	fmt.Println(b.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		v, err := strconv.ParseUint(in.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		src.set(record("fan", testEpoch, v, false))
	}
}

// brokerProcess is a broker in a process of its own, as Mosquitto is one: else it
// would share its processors with the subscribers.
func brokerProcess(b *testing.B) (addr net.Addr, send func(v uint64), rss func() int) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBrokerProcess$")
	cmd.Env = append(os.Environ(), "HOLDFAST_BROKER_PROCESS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr, err = net.ResolveTCPAddr("tcp", strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	rss = func() int { // KiB
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		fields := append(strings.Fields(rest), "0")
		n, _ := strconv.Atoi(fields[0])
		return n
	}
	return addr, func(v uint64) { fmt.Fprintln(in, v) }, rss
}

// BenchmarkFanout measures one update to 1,000 subscribers: the last delivery of
// this broker, and of Mosquitto with the same subscribers.
func BenchmarkFanout(b *testing.B) {
	const n = 1000
	report := func(b *testing.B, lap func(uint64) time.Duration) {
		lap(2) // the first costs more
		var laps []time.Duration
		for v := uint64(3); b.Loop(); v++ {
			laps = append(laps, lap(v))
		}
		slices.Sort(laps)
		b.ReportMetric(float64(laps[len(laps)/2].Microseconds()), "µs/last-p50")
		b.ReportMetric(float64(laps[len(laps)*99/100].Microseconds()), "µs/last-p99")
	}
	b.Run("holdfast", func(b *testing.B) {
		addr, send, rss := brokerProcess(b)
		before := rss()
		lap := fanout(b, addr, n, send)
		report(b, lap)
		b.ReportMetric(float64(rss()-before)/n, "KiB/subscriber")
	})
	b.Run("mosquitto", func(b *testing.B) {
		m := newMosquitto(b)
		pub := dial(b, m.addr(), 4)
		pub.connect("publisher")
		report(b, fanout(b, m.addr(), n, func(v uint64) {
			pk := publishPacket(4, 1, "system/config/fan")
			pk.Payload = payloadOf(b, record("fan", testEpoch, v, false))
			pub.send(pk)
		}))
	})
}
