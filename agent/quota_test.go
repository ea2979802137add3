package agent_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestSidecarReportsWithinItsQuota: a sidecar that floods the leader with rows of the
// access log and with changes of its own row is slowed down, and does not choose what
// the leader dials.
func TestSidecarReportsWithinItsQuota(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	post := func(path string, in any) error { return side.Rooms().Cluster.Call(t.Context(), "n1", path, in, nil) }
	hello := func(change func(*command.Member)) error {
		row := command.Member{Addr: side.Info().Cluster, Version: "x"}
		change(&row)
		return post("/hello", row)
	}
	for _, addr := range []string{"10.9.8.7:22", "localhost:6379", "169.254.169.254:80", "evil.example:2771", "127.0.0.1", "127.0.0.1:0", ":2771", "127.0.0.1:99999", ""} {
		err := hello(func(row *command.Member) { row.Addr = addr })
		if code := conf.CodeOf(err); code != conf.CodeDenied && code != conf.CodeInvalid || conf.HintOf(err) == "" {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for _, change := range []func(*command.Member){
		func(row *command.Member) { row.Version = strings.Repeat("v", 300) },
		func(row *command.Member) { row.Service = strings.Repeat("s", 300) },
	} {
		if err := hello(change); conf.CodeOf(err) != conf.CodeInvalid {
			t.Error(err)
		}
	}
	changed := 0
	for i := range 60 {
		err := hello(func(row *command.Member) { row.Version = strconv.Itoa(i) })
		if err == nil {
			changed++
		} else if conf.CodeOf(err) != conf.CodeRateLimited {
			t.Error(err)
		}
	}
	if changed == 0 || changed > 30 {
		t.Errorf("%d changes of the row", changed)
	}
	row := conf.Access{UserID: "a", Action: "read", Timestamp: "2026-01-02T03:04:05+00:00", Reason: strings.Repeat("r", 3900)}
	batch := command.Audit{Source: "flood"}
	for range 250 {
		batch.Rows = append(batch.Rows, row)
	}
	var err error
	for batch.Seq < 30 && err == nil {
		batch.Seq++
		err = post("/access", batch)
	}
	if conf.CodeOf(err) != conf.CodeRateLimited || batch.Seq < 3 {
		t.Errorf("batch %d: %v", batch.Seq, err)
	}
	if code, body := n1.set("9"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}

// TestMemberCallsWithinItsQuota: a member that calls the routes of the leader in a loop is
// refused, and told when to come back; and it registers no address of another host, nor
// text without an end, on the way of one that lost its log.
func TestMemberCallsWithinItsQuota(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	server := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)).ready()
	call := func(a *running, path, body string) (int, string, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://leader"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := a.Rooms().Cluster.Port.Client("n1").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
	}
	long := strings.Repeat("s", 300)
	for _, body := range []string{
		`{"advertise":"169.254.169.254:80"}`, `{"advertise":"evil.example:2771"}`, `{"advertise":"` + server.Info().Cluster + `","service":"` + long + `"}`,
		`{"advertise":"` + server.Info().Cluster + `","version":"` + long + `"}`,
	} {
		if code, _, text := call(server, "/rejoin", body); code != 400 && code != 403 && code != 422 || !strings.Contains(text, `"hint":"`) {
			t.Errorf("%.60s: %d %s", body, code, text)
		}
	}
	members := func() int { return len(n1.Rooms().Cluster.Members()) }
	before := members()
	for _, tc := range []struct {
		a          *running
		path, body string
		most       int
	}{
		{server, "/rejoin", `{"advertise":"10.9.8.7:22"}`, 20}, {side, "/rejoin", `{}`, 25}, {side, "/retire", `{"node_id":"n1"}`, 40}, {side, "/renew", `{}`, 15},
	} {
		passed := 0
		for ; passed <= 2*tc.most; passed++ {
			code, after, text := call(tc.a, tc.path, tc.body)
			if code == http.StatusTooManyRequests {
				if after == "" || !strings.Contains(text, string(conf.CodeRateLimited)) {
					t.Errorf("%s: Retry-After %q, %s", tc.path, after, text)
				}
				break
			}
			if code == http.StatusOK {
				t.Errorf("%s: %s", tc.path, text)
			}
		}
		if passed < 3 || passed > tc.most {
			t.Errorf("%s: refused after %d calls", tc.path, passed)
		}
	}
	if after := members(); after != before {
		t.Errorf("%d members, then %d", before, after)
	}
	if code, body := n1.set("9"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}
