package testenv

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSessionAtEveryServer logs in at the leader, through a name that leads to every server,
// kills the leader, and goes on at another one.
func TestSessionAtEveryServer(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0)
	leader, followers := c.Servers()
	const host, own, fetch = "Host: config.example", "Origin: http://config.example", "Sec-Fetch-Site: same-origin"
	login := func(n *Node, token string) string {
		t.Helper()
		r := Do("POST", "http://"+n.AdminAddr+"/api/session", `{"token":"`+token+`"}`, host).OK(t)
		pair, _, _ := strings.Cut(r.Header.Get("Set-Cookie"), ";")
		return "Cookie: " + pair
	}
	at := func(n *Node, method, path, body, cookie string) Reply {
		return Do(method, "http://"+n.AdminAddr+path, body, host, own, fetch, cookie)
	}
	cookie := login(leader, WriteToken)
	var made struct{ ID, Token string }
	at(leader, "POST", "/api/config/tokens", `{"role":"config.write","name":"bo"}`, cookie).OK(t).Into(t, &made)
	var bo string
	Await(t, "bo's token at a follower", func() bool {
		r := Do("POST", "http://"+followers[0].AdminAddr+"/api/session", `{"token":"`+made.Token+`"}`, host)
		bo = "Cookie: " + strings.SplitN(r.Header.Get("Set-Cookie"), ";", 2)[0]
		return r.Status == http.StatusOK
	})

	// A page at one follower hears what is changed at another.
	events := stream(t, followers[0], host, cookie)
	Await(t, "the follower to have the service", func() bool {
		return at(followers[0], "GET", "/api/config/services/stt-worker", "", cookie).Status == 200
	})
	at(followers[1], "PATCH", "/api/config/services/stt-worker", `{"vad_threshold":0.61}`, cookie).OK(t)
	await(t, events, `data: {"service":"stt-worker","version":`)

	leader.Kill()
	for _, n := range followers {
		var me struct{ Name, Role string }
		at(n, "GET", "/api/config/me", "", cookie).OK(t).Into(t, &me)
		if me.Role != "config.write" {
			t.Errorf("at %s the session is of %+v", n.AdminAddr, me)
		}
	}
	await(t, events, "event: cluster")
	Await(t, "a change by the session after the failover", func() bool {
		return at(followers[0], "PATCH", "/api/config/services/stt-worker", `{"vad_threshold":0.62}`, cookie).Status == 200
	})

	// The end of a token is the end of its sessions, everywhere.
	at(followers[1], "GET", "/api/config/me", "", bo).OK(t)
	Await(t, "bo's token to be revoked", func() bool {
		return at(followers[0], "DELETE", "/api/config/tokens/"+made.ID, "", cookie).Status == 200
	})
	for _, n := range followers {
		Await(t, "bo's session to end", func() bool { return at(n, "GET", "/api/config/me", "", bo).Status == http.StatusUnauthorized })
	}

	// A stream does not hold up a stop.
	begun := time.Now()
	followers[0].Stop()
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for range events { // it ends
	}
}

// stream reads the events of an agent; its lines arrive in the channel.
func stream(t *testing.T, n *Node, headers ...string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.AdminAddr+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
		if k == "Host" {
			r.Host = v
		}
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the stream: %s", res.Status)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func await(t *testing.T, lines <-chan string, prefix string) {
	t.Helper()
	for end := time.After(Patience); ; {
		select {
		case l, ok := <-lines:
			if !ok {
				t.Fatalf("the stream ended before %q", prefix)
			}
			if strings.HasPrefix(l, prefix) {
				return
			}
		case <-end:
			t.Fatalf("no line %q", prefix)
		}
	}
}
