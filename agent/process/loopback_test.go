package process

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func listenLocalhost(t *testing.T) net.Listener {
	t.Helper()
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		base.Missing(t, "this machine has no IPv6 loopback: %v", err)
	}
	_ = probe.Close()
	l, err := ListenHost("localhost:0", "X", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, host string, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestLocalhostIsBothLoopbacks connects to both addresses that the name may mean.
func TestLocalhostIsBothLoopbacks(t *testing.T) {
	t.Parallel()
	l := listenLocalhost(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		dial(t, host, l)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := net.SplitHostPort(c.LocalAddr().String()); got != host {
			t.Errorf("connected to %s, accepted on %s", host, got)
		}
		_ = c.Close()
	}
	// What another program has is not shared with it.
	if other, err := ListenHost(net.JoinHostPort("localhost", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), "X", slog.Default()); conf.CodeOf(err) != conf.CodeUsage {
		t.Errorf("a taken port: %v, %v", other, err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := l.Accept(); waiting <- err }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ends with %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
}

// TestLocalhostTakenOnIPv6 has a program on ::1 alone: a client of localhost would
// reach it instead of the agent.
func TestLocalhostTakenOnIPv6(t *testing.T) {
	t.Parallel()
	listenLocalhost(t)
	other, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := strconv.Itoa(other.Addr().(*net.TCPAddr).Port)
	if _, err := ListenHost("localhost:"+port, "X", slog.Default()); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
		t.Errorf("got %v, hint %q", err, conf.HintOf(err))
	}
	// Nothing is left open.
	four, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = four.Close()
}

// TestLocalhostDeadline ends an Accept without losing the connections that come after
// it, as the handing on of a listener needs.
func TestLocalhostDeadline(t *testing.T) {
	t.Parallel()
	l := listenLocalhost(t)
	d := l.(interface{ SetDeadline(t time.Time) error })
	waiting := make(chan error, 1)
	go func() { _, err := l.Accept(); waiting <- err }()
	_ = d.SetDeadline(time.Now())
	if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Accept ends with %v", err)
	}
	clients := []net.Conn{dial(t, "::1", l), dial(t, "127.0.0.1", l), dial(t, "::1", l)}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept after the deadline: %v", err)
	}
	_ = d.SetDeadline(time.Time{})
	for range clients {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "x")
		_ = c.Close()
	}
	for _, c := range clients {
		if data, err := io.ReadAll(c); err != nil || string(data) != "x" {
			t.Errorf("a client reads %q, %v", data, err)
		}
	}
}
