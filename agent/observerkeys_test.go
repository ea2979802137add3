package agent

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// An observer that was given the key of before learns the one after it from a member,
// and goes on; one that was given a foreign key learns nothing.
func TestObserverLearnsTheKey(t *testing.T) {
	o := options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	o.MQTTAddr = "127.0.0.1:0"
	member := start(t, o).ready()
	if code, body := member.set("41"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.await("a keyring", func() bool { return testStatus{member.keyring()}.active(conf.KeySigning) != "" })
	before := member.sup.keys.Get().Public
	observer := func(trust string) *observing {
		return observe1(t, options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust,
			"CONFIG_OBSERVE_URL": "mqtt://" + member.broker.Addr().String(), "CONFIG_MEMBER_URL": member.Info().AdminURL, "CONFIG_API_TOKEN": "reader-token",
		}))
	}
	r := observer(base64.StdEncoding.EncodeToString(before))
	r.serves("41", "replica")
	rot, code, body := member.changeKey(conf.KeySigning, "rotate")
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.await("the new key in use", func() bool { return member.record("demo").KeyID == rot.KeyID })
	if code, body := member.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	r.serves("42", "replica")
	if _, _, body := r.get("/v1/keys"); !strings.Contains(body, rot.KeyID) {
		t.Errorf("/v1/keys does not have the key that it verifies with: %s", body)
	}

	foreign := observer(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	foreign.await("the refusal of all that comes", func() bool {
		return !foreign.unproven.Load() && len(foreign.receiver.Trusted()) == 1 && foreign.refusals() > 0
	})
	if code, _, body := foreign.get("/v1/config/demo/level"); code == http.StatusOK && body == "42" {
		t.Error("believed under a foreign key")
	}
}

func (r *observing) refusals() (n uint64) {
	_, by := r.receiver.Stats()
	for _, c := range by {
		n += c
	}
	return n
}
