package testenv

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// metric is the value of one line of the agent's /metrics, 0 when it is not there.
func (a *Agent) metric(name string) float64 {
	for line := range bytes.Lines(a.Local("/metrics").OK(a.t).Body) {
		if value, ok := strings.CutPrefix(string(line), name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				a.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// peakMemory is the most that the agent's process ever held, in bytes.
func (a *Agent) peakMemory() int {
	a.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.proc.Pid()))
	if err != nil {
		a.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		a.t.Fatal(err)
	}
	return kib << 10
}

// listener is a client that tells when messages of a service come.
type listener struct {
	t    testing.TB
	c    mqtt.Client
	came chan []byte
}

func listen(t testing.TB, broker, service string) *listener {
	t.Helper()
	return listenTopic(t, broker, "system/config/"+service)
}

func listenTopic(t testing.TB, broker, topic string) *listener {
	t.Helper()
	l := &listener{t: t, came: make(chan []byte, 1024)}
	l.c = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetAutoReconnect(false).SetPingTimeout(Patience))
	t.Cleanup(func() { l.c.Disconnect(0) })
	for _, step := range []func() mqtt.Token{
		l.c.Connect,
		func() mqtt.Token {
			return l.c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { l.came <- m.Payload() })
		},
	} {
		if token := step(); !token.WaitTimeout(Patience) || token.Error() != nil {
			t.Fatalf("subscribing: %v", token.Error())
		}
	}
	return l
}

// sees waits for the message that holds text, and tells how long that took.
func (l *listener) sees(text string) time.Duration {
	l.t.Helper()
	began, late := time.Now(), time.NewTimer(Patience)
	defer late.Stop()
	for {
		select {
		case m := <-l.came:
			if bytes.Contains(m, []byte(text)) {
				return time.Since(began)
			}
		case <-late.C:
			l.t.Fatalf("no message with %s", text)
		}
	}
}

// saw says whether a message with text is among those that came already.
func (l *listener) saw(text string) bool {
	for {
		select {
		case m := <-l.came:
			if bytes.Contains(m, []byte(text)) {
				return true
			}
		default:
			return false
		}
	}
}

// hostile is what one kind of attacker sends, and what the agent counts it as.
type hostile struct {
	reason string
	bytes  string
}

const (
	connect311  = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
	connect5    = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x"
	connectWill = "\x10\x14\x00\x04MQTT\x04\x06\x00\x3c\x00\x01c\x00\x01w\x00\x02hi"
)

// attacks are whole conversations; each ends its connection.
func attacks() []hostile {
	topic := "system/config/stt-worker"
	publish := "\x00" + string([]byte{byte(len(topic))}) + topic + `{"forged":true}`
	return []hostile{
		{"too_large", "\x10\xff\xff\xff\x7f"},                 // a CONNECT of 256 MiB
		{"panic", connect5 + "\x82\x06\x00\x01\x00\x00\x01a"}, // a SUBSCRIBE without options
		{"will", connectWill},
		{"publish", connect311 + "\x31" + string([]byte{byte(len(publish))}) + publish},
		{"malformed", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"too_large", connect311 + "\x30\x80\x80\x04"}, // a PUBLISH of 64 KiB
		{"malformed", connect311 + "\xf0\x00"},         // AUTH, which MQTT 3.1.1 has not
	}
}

// TestMQTTHostileClients lets 1,000 connections loose on the broker of a real
// agent, each of which sends something evil: the others are served, the memory is
// bounded, and each is counted under its reason.
func TestMQTTHostileClients(t *testing.T) {
	t.Parallel()
	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+broker)
	l := listen(t, broker, "stt-worker")
	a.Patch("stt-worker", `{"whisper_model":"before"}`)
	l.sees("before")
	memory := a.peakMemory()

	const total = 1000
	want, kinds := map[string]float64{}, attacks()
	var all sync.WaitGroup
	sending := make(chan struct{}, 100) // so that none of them waits for its turn longer than the broker waits for it
	for i := range total {
		attack := kinds[i%len(kinds)]
		want[attack.reason]++
		all.Go(func() {
			sending <- struct{}{}
			defer func() { <-sending }()
			c, err := net.Dial("tcp", broker)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(Patience))
			_, _ = io.WriteString(c, attack.bytes)
			if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
				t.Errorf("%s: the connection is still open", attack.reason)
			}
		})
	}
	for i := range 5 { // meanwhile
		name := fmt.Sprintf("during-%d", i)
		a.Patch("stt-worker", `{"whisper_model":"`+name+`"}`)
		l.sees(name)
	}
	all.Wait()
	for reason, n := range want {
		name := fmt.Sprintf("holdfast_mqtt_refused_total{reason=%q}", reason)
		AwaitWithin(t, Patience, fmt.Sprintf("%s %v", name, n), func() bool { return a.metric(name) == n })
	}
	Await(t, "one connection to be left", func() bool { return a.metric("holdfast_mqtt_connections") == 1 })
	a.Patch("stt-worker", `{"whisper_model":"after"}`)
	l.sees("after")
	grown := a.peakMemory() - memory
	t.Logf("%d connections: %v, %d MiB more at the peak", total, want, grown>>20)
	if grown > 128<<20 {
		t.Errorf("the agent grew by %d MiB", grown>>20)
	}
}

// TestMQTTStoppedSubscribers stops subscribers (SIGSTOP) while large updates come:
// nobody else is delayed, and what waits for them does not pile up. Set
// HOLDFAST_STOPPED=1m to stop them for a minute.
func TestMQTTStoppedSubscribers(t *testing.T) {
	t.Parallel()
	Need(t, "mosquitto_sub")
	stop := 3 * time.Second
	if text := os.Getenv("HOLDFAST_STOPPED"); text != "" {
		var err error
		if stop, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+broker)
	host, port, _ := net.SplitHostPort(broker)
	l := listen(t, broker, "stt-worker")
	n := 0
	change := func() time.Duration {
		t.Helper()
		n++
		mark := fmt.Sprintf("mark-%d-", n)
		a.Patch("stt-worker", `{"whisper_model":"`+mark+strings.Repeat("x", 32<<10)+`"}`)
		return l.sees(mark)
	}
	load := func() (slowest time.Duration, updates int) {
		t.Helper()
		began, first := time.Now(), n
		for time.Since(began) < stop || n-first < 10 {
			slowest = max(slowest, change())
		}
		return slowest, n - first
	}
	alone, _ := load()
	memory := a.peakMemory()

	var subs []*Process
	for range 5 {
		subs = append(subs, Spawn(t, t.TempDir(), nil, "mosquitto_sub", "-h", host, "-p", port, "-q", "1", "-t", "system/#"))
	}
	for _, s := range subs {
		Await(t, "a subscriber to have the newest", func() bool { return s.Transcript().Has(fmt.Sprintf("mark-%d-", n)) })
		s.Signal(syscall.SIGSTOP)
	}
	before := a.metric("holdfast_mqtt_conflated_total")
	beside, updates := load()
	conflated := a.metric("holdfast_mqtt_conflated_total") - before
	grown := a.peakMemory() - memory
	t.Logf("%d updates within %s beside %d stopped subscribers: the slowest took %s, alone %s; %d MiB more at the peak; %v conflated, %v thrown out",
		updates, stop, len(subs), beside, alone, grown>>20, conflated, a.metric(`holdfast_mqtt_refused_total{reason="slow"}`))
	// Who waits for one of them waits until it is thrown out, after 20 seconds.
	if beside > max(15*time.Second, 10*alone) {
		t.Errorf("stopped subscribers delayed another by %s", beside)
	}
	// 64 are on their way to each, and one waits: all others were replaced by a newer one.
	if want := float64(len(subs) * (updates - 100)); conflated < want {
		t.Errorf("only %v messages were replaced by newer ones, want %v", conflated, want)
	}
	if grown > 512<<20 { // mostly the log's: each update is a change of 64 KiB
		t.Errorf("the agent grew by %d MiB", grown>>20)
	}
	// They go on with the newest, on this connection or on the next.
	for _, s := range subs {
		s.Signal(syscall.SIGCONT)
	}
	last := fmt.Sprintf("mark-%d-", n)
	for _, s := range subs {
		Await(t, "a subscriber that goes on to have the newest", func() bool { return s.Transcript().Has(last) })
	}
}
