package agent_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv"
)

func (r *running) record(service string) *conf.Record {
	e, ok := r.Rooms().View.Get(service)
	if !ok {
		return &conf.Record{}
	}
	return e.Record
}

// TestReissue holds what a renewed signature changes, on the leader and on a
// follower: the brokers and the last-known-good file have it, readers who wait for
// a change hear nothing.
func TestReissue(t *testing.T) {
	t.Parallel()
	mqtt := func(o options.Options) options.Options {
		o.MQTTAddr, o.MQTTReissue = "127.0.0.1:0", 200*time.Millisecond
		return o
	}
	o := mqtt(testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)}))
	n1 := start(t, o).ready()
	n2 := start(t, mqtt(joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token))).ready()
	if code, body := n1.set("7"); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for _, r := range []*running{n1, n2} {
		r.Await("level 7", func() bool { v, _ := r.level(); return v == "7" })
	}
	for _, r := range []*running{n1, n2} {
		first := *r.record("demo")
		url := r.Info().LocalURL + "/v1/config/demo"
		_, h, _ := r.Call("GET", url, "")
		published := r.Rooms().Broker.Stats().Published
		e, _ := r.Rooms().View.Get("demo")

		// The long poll ends without an answer of its own while signatures are renewed.
		r.Await("a renewed signature while a reader waits", func() bool {
			code, after, _ := r.Call("GET", url+"?wait=1s", "", "If-None-Match", h.Get("ETag"))
			if code != http.StatusNotModified || after.Get("ETag") != h.Get("ETag") || after.Get("X-Config-Version") != h.Get("X-Config-Version") {
				t.Errorf("a reader who waits got %d, ETag %s, then %s", code, h.Get("ETag"), after.Get("ETag"))
			}
			return r.record("demo").IssuedAt > first.IssuedAt
		})
		now := r.record("demo")
		if now.Signature == first.Signature {
			t.Fatalf("%s: signed at %s and at %s by the same signature", r.Options.NodeID, first.IssuedAt, now.IssuedAt)
		}
		if err := seal.VerifyRecord(r.Rooms().Keys.Set().Public, now); err != nil {
			t.Error(err)
		}

		same := *now
		same.IssuedAt, same.Signature = first.IssuedAt, first.Signature
		if same.Version != first.Version || same.UpdatedAt != first.UpdatedAt || same.Index != first.Index || same.KeyID != first.KeyID {
			t.Errorf("%+v became %+v", first, same)
		}
		select {
		case <-e.Changed():
			t.Error("who waits for a change of the service was woken")
		default:
		}
		r.Await("the broker to publish it", func() bool { return r.Rooms().Broker.Stats().Published > published })
		r.Await("the renewed signature in the last-known-good file", func() bool {
			c, err := lkg.Load(r.Options.LKGPath, r.Rooms().Keys.Set().HMAC)
			if err != nil {
				return false
			}
			for _, rec := range c.Records {
				if rec.Service == "demo" && rec.IssuedAt > first.IssuedAt {
					return seal.VerifyRecord(r.Rooms().Keys.Set().Public, rec) == nil
				}
			}
			return false
		})
	}
	counted := false
	for _, r := range []*running{n1, n2} { // either may have led
		_, _, metrics := r.Call("GET", r.Info().LocalURL+"/metrics", "")
		if !strings.Contains(metrics, "holdfast_reissued_total ") || !strings.Contains(metrics, "holdfast_reissue_failures_total ") {
			t.Errorf("%s does not tell what it signs anew", r.Options.NodeID)
		}
		counted = counted || !strings.Contains(metrics, "holdfast_reissued_total 0\n")
	}
	if !counted {
		t.Error("the leader does not count what it signs anew")
	}
	_, _, history := n1.Call("GET", n1.Info().AdminURL+"/api/config/services/demo/versions", "", "X-API-Token", testenv.ReadToken)
	if strings.Count(history, `"checksum"`) != 2 {
		t.Errorf("versions: %s", history)
	}
}
