package agent_test

import (
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestGuessesBehindASidecar: who guesses tokens through a sidecar is slowed there, and
// locks out nobody else who asks the same sidecar.
func TestGuessesBehindASidecar(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	from := func(ip string) func(token string) int {
		tr := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext}
		t.Cleanup(tr.CloseIdleConnections)
		return func(token string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, side.Info().AdminURL+"/api/config/me", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-API-Token", token)
			resp, err := (&http.Client{Transport: tr}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
	}
	guess, honest := from("127.0.0.2"), from("127.0.0.3")
	n := 0
	code := http.StatusUnauthorized
	for ; code == http.StatusUnauthorized; code = guess("guess") {
		if n++; n > 1000 {
			t.Fatal("a thousand guesses, and none was slowed")
		}
	}
	if code != http.StatusTooManyRequests {
		t.Errorf("after %d guesses: %d", n, code)
	}
	if code := honest(testenv.ReadToken); code != http.StatusOK {
		t.Errorf("another one behind the same sidecar gets %d", code)
	}
	// A search for those who guess finds their address, and not what they say of it.
	if code, _, _ := n1.Call("GET", n1.Info().AdminURL+"/api/config/me", "", "X-API-Token", "guess", "X-Holdfast-Caller", "192.0.2.9"); code != http.StatusUnauthorized {
		t.Fatal(code)
	}
	for _, want := range []string{
		"GET /api/config/me: wrong token, from 127.0.0.2 through side at n1", "GET /api/config/me: wrong token, from 127.0.0.1 at n1",
	} {
		n1.Await(want, func() bool {
			page, err := n1.Rooms().Backend.AccessLog(t.Context(), conf.AccessFilter{Action: "unauthorized", Limit: 1000})
			return err == nil && slices.ContainsFunc(page.Results, func(row conf.Access) bool { return row.Reason == want })
		})
	}
}
