package connlimit

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// However few descriptors there are, all ports together leave some for the files.
func TestBudgetLeavesAReserve(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{128: 11, 256: 23, 1024: 161, 65536: 4096, 1 << 30: 4096, ^uint64(0): 4096} {
		b := NewBudget(descriptors, slog.New(slog.DiscardHandler))
		if got := b.Max(Local); got != want {
			t.Errorf("%d descriptors: %d local connections, want %d", descriptors, got, want)
		}
		sum := b.Max(Cluster) + b.Max(MQTT)
		for _, p := range []Port{Local, Local, Admin, Page} { // these answer those whom they reject
			sum += b.Max(p) + min(maxResponders, max(1, b.Max(p)/8))
		}
		if uint64(sum) > descriptors-min(reserve, descriptors/2) {
			t.Errorf("%d descriptors: %d are for connections", descriptors, sum)
		}
	}
}

// A port that rejects is named once in the log and in Err, and so is the end of it.
func TestBudgetNamesFullPorts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := NewBudget(256, slog.New(slog.NewTextHandler(&log, nil)))
		if b.Err() != nil {
			t.Error(b.Err())
		}
		for range 5 {
			b.Reject(MQTT)
		}
		time.Sleep(fullFor - time.Second)
		b.Reject(MQTT)
		time.Sleep(fullFor - time.Second)
		if err := b.Err(); err == nil || !strings.Contains(err.Error(), "the mqtt port") || strings.Contains(err.Error(), "admin") {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.Err() != nil || b.Rejected(MQTT) != 6 {
			t.Error(b.Err(), b.Rejected(MQTT))
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || strings.Count(text, "takes connections again") != 1 {
			t.Error(text)
		}
	})
}

// Connections that send nothing keep nobody out: the oldest of them is closed.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(in, Limits{Max: 4}, func() {})
	srv := &http.Server{ReadHeaderTimeout: time.Minute, ConnState: Track, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	for range 20 {
		c, err := net.Dial("tcp", in.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		resp, err := client.Get("http://" + in.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d beside connections that send nothing", resp.StatusCode)
		}
	}
	if l.Open() > 4 {
		t.Errorf("%d open", l.Open())
	}
}
