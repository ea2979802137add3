package testenv

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBadInputOnTheClusterPort sends a cluster what does not belong there: bytes
// at random, plain HTTP, TLS of strangers, and 500 connections that say nothing.
// The members do not notice: same leader, same term, bounded memory.
func TestBadInputOnTheClusterPort(t *testing.T) {
	c := StartCluster(t, 3, 0)
	// A busy machine may have an election of its own meanwhile; one that comes of what
	// is sent here comes each time.
	for try := 1; !badInput(t, c); try++ {
		if try == 3 {
			t.Error("the members notice it")
			break
		}
	}
	c.CheckInvariants(t, nil)
}

// badInput sends all of it, and says whether the same leader led in the same term.
func badInput(t *testing.T, c *Cluster) (unnoticed bool) {
	t.Helper()
	leader := c.Leader()
	term := status(t, leader).Term
	memory := rss(t, leader)

	r := rand.New(rand.NewPCG(5, 5))
	for _, n := range c.Nodes {
		for range 40 {
			junk := make([]byte, 1+r.IntN(5000))
			for i := range junk {
				junk[i] = byte(r.Uint32())
			}
			if r.IntN(2) == 0 {
				junk = append([]byte{22, 3, 1, byte(r.Uint32()), byte(r.Uint32())}, junk...) // as TLS begins
			}
			send(t, n.Listen, junk)
		}
		send(t, n.Listen, []byte("GET / HTTP/1.1\r\nHost: holdfast\r\n\r\n"))
		send(t, n.Listen, bytes.Repeat([]byte("POST /join HTTP/1.1\r\n"), 5000))
		for _, alpn := range []string{"holdfast-raft/1", "holdfast-rpc/1", "h2", ""} {
			conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}} //nolint:gosec // a stranger does not check
			if alpn == "" {
				conf.NextProtos = nil
			}
			d := &net.Dialer{Timeout: 5 * time.Second}
			if conn, err := tls.DialWithDialer(d, "tcp", n.Listen, conf); err == nil {
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write([]byte("GET /status HTTP/1.1\r\nHost: x\r\n\r\n"))
				buf := make([]byte, 512)
				k, _ := conn.Read(buf)
				if strings.Contains(string(buf[:k]), "last_index") || strings.Contains(string(buf[:k]), "200 OK") {
					t.Errorf("a stranger with ALPN %q was answered: %q", alpn, buf[:k])
				}
				conn.Close()
			}
		}
	}

	var idle []net.Conn
	defer func() {
		for _, conn := range idle {
			conn.Close()
		}
	}()
	for range 500 {
		conn, err := net.DialTimeout("tcp", leader.Listen, 5*time.Second)
		if err != nil {
			continue // turned away: as good
		}
		idle = append(idle, conn)
	}
	if len(idle) < 100 {
		t.Errorf("only %d idle connections were made", len(idle))
	}
	// Members get through beside them, a restarted one too.
	for i := range 20 {
		c.Nodes[i%3].Patch("router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 100+i))
	}
	_, followers := c.Servers()
	if followers[0] != leader {
		followers[0].Restart()
	}
	if grown := rss(t, leader) - memory; grown > 60<<20 {
		t.Errorf("%d idle connections and junk took %d MB", len(idle), grown>>20)
	}
	c.AwaitVoters(3)
	st := status(t, leader)
	if unnoticed = st.Term == term && st.Leader == leader.ID; !unnoticed {
		t.Logf("term %d led by %s, was %d led by %s", st.Term, st.Leader, term, leader.ID)
	}
	return unnoticed
}

// send writes data to an address and waits for the end of the connection.
func send(t *testing.T, addr string, data []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(40 * time.Millisecond))
	_, _ = conn.Write(data)
	_, _ = conn.Read(make([]byte, 256))
}

// rss is the memory of the agent's process.
func rss(t *testing.T, n *Node) int {
	t.Helper()
	pids := append(children(n.proc.Pid()), n.proc.Pid())
	most := 0
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(data)); len(f) > 1 {
			pages, _ := strconv.Atoi(f[1])
			most = max(most, pages*os.Getpagesize())
		}
	}
	if most == 0 {
		t.Fatal("the memory of the agent is not known")
	}
	return most
}
