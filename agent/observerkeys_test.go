package agent_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// An observer that was given the key of before learns the one after it from a member,
// and goes on; one that was given a foreign key learns nothing.
func TestObserverLearnsTheKey(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	o.MQTTAddr = "127.0.0.1:0"
	member := start(t, o).ready()
	if code, body := member.set("41"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.Await("a keyring", func() bool { return testStatus{member.keyring()}.active(conf.KeySigning) != "" })
	before := member.Rooms().Keys.Set().Public
	admin, err := url.Parse(member.Info().AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	var answered atomic.Bool // a question for the keys
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(admin) },
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode == http.StatusOK && strings.HasSuffix(resp.Request.URL.Path, "/keys") {
				answered.Store(true)
			}
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	observer := func(trust, at string) *observing {
		return observe(t, testenv.Options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust,
			"CONFIG_OBSERVE_URL": "mqtt://" + member.Rooms().Broker.Addr().String(), "CONFIG_MEMBER_URL": at, "CONFIG_API_TOKEN": testenv.ReadToken,
		}))
	}
	r := observer(base64.StdEncoding.EncodeToString(before), member.Info().AdminURL)
	r.serves("41", "replica")
	rot, code, body := member.changeKey(conf.KeySigning, "rotate")
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.Await("the new key in use", func() bool { return member.record("demo").KeyID == rot.KeyID })
	if code, body := member.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	r.serves("42", "replica")
	if _, _, body := r.get("/v1/keys"); !strings.Contains(body, rot.KeyID) {
		t.Errorf("/v1/keys does not have the key that it verifies with: %s", body)
	}

	foreign := observer(base64.StdEncoding.EncodeToString(make([]byte, 32)), proxy.URL)
	foreign.Await("the refusal of all that comes", func() bool { return foreign.refusals() > 0 })
	foreign.Await("a member's answer about the keys", answered.Load)
	if _, _, body := foreign.get("/v1/keys"); strings.Count(body, `"key_id"`) != 1 {
		t.Errorf("it does not trust its one key alone: %s", body)
	}
	if code, _, body := foreign.get("/v1/config/demo/level"); code == http.StatusOK && body == "42" {
		t.Error("believed under a foreign key")
	}
}

func (r *observing) refusals() (n int) {
	_, _, body := r.get("/metrics")
	for line := range strings.Lines(body) {
		if sample, ok := strings.CutPrefix(line, "holdfast_update_refused_total{"); ok {
			_, count, _ := strings.Cut(sample, "} ")
			c, err := strconv.Atoi(strings.TrimSpace(count))
			if err != nil {
				r.T.Fatal(err)
			}
			n += c
		}
	}
	return n
}

// An observer that is started again when no member can be asked goes on with the keys
// that it had learned, and drops those that are at their end.
func TestObserverKeepsTheKeys(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	o.MQTTAddr = "127.0.0.1:0"
	member := start(t, o).ready()
	member.Await("a keyring", func() bool { return testStatus{member.keyring()}.active(conf.KeySigning) != "" })
	root := base64.StdEncoding.EncodeToString(member.Rooms().Keys.Set().Public)
	rotate := func() string {
		t.Helper()
		rot, code, body := member.changeKey(conf.KeySigning, "rotate")
		if code != http.StatusOK {
			t.Fatal(code, body)
		}
		member.Await("the new key in use", func() bool { return member.record("demo").KeyID == rot.KeyID })
		return rot.KeyID
	}
	set := func(level string) {
		t.Helper()
		if code, body := member.set(level); code != http.StatusOK {
			t.Fatal(code, body)
		}
	}
	const nobody = "http://127.0.0.1:1"
	dir := testenv.Options(t, nil)
	observer := func(at string) *observing {
		t.Helper()
		oo := testenv.Options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": root, "CONFIG_API_TOKEN": testenv.ReadToken,
			"CONFIG_OBSERVE_URL": "mqtt://" + member.Rooms().Broker.Addr().String(), "CONFIG_MEMBER_URL": at,
		})
		oo.DataDir, oo.LKGPath, oo.EnvFile = dir.DataDir, dir.LKGPath, dir.EnvFile
		return observe(t, oo)
	}
	set("41")
	r := observer(member.Info().AdminURL)
	r.serves("41", "replica")
	first := rotate()
	set("42")
	r.serves("42", "replica")
	r.Stop()

	set("43")
	r = observer(nobody)
	r.serves("43", "replica")
	if _, _, body := r.get("/v1/keys"); !strings.Contains(body, first) {
		t.Errorf("/v1/keys does not have the key that it verifies with: %s", body)
	}
	r.Stop()

	// A key that was retired meanwhile goes as soon as a member says so, and does not
	// come back.
	member.Await("the end of the first key", func() bool { _, code, _ := member.changeKey(conf.KeySigning, "retire"); return code == http.StatusOK })
	second := rotate()
	member.Await("the end of the second key", func() bool { _, code, _ := member.changeKey(conf.KeySigning, "retire"); return code == http.StatusOK })
	set("44")
	r = observer(member.Info().AdminURL)
	trusts := func(id string) bool { _, _, body := r.get("/v1/keys"); return strings.Contains(body, id) }
	r.Await("the newest key, and not the retired one", func() bool { return trusts(second) && !trusts(first) })
	r.serves("44", "replica")
	r.Stop()
	r = observer(nobody)
	if !trusts(second) || trusts(first) {
		_, _, body := r.get("/v1/keys")
		t.Errorf("after a restart it trusts %s", body)
	}
	set("45")
	r.serves("45", "replica")
}
