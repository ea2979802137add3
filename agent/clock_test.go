package agent_test

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

const day = 24 * time.Hour

// Members whose certificates are of clocks that were ahead find each other when the clocks
// are right, renew them, and let another agent join.
func TestCertificatesOfClocksThatWereAhead(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"a day": day, "91 days": 91 * day} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := new(testenv.Clock)
			clock.Set(ahead)
			o1 := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
			o1.Now = clock.Now
			n1 := start(t, o1).ready()
			o2 := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)
			o2.Now = clock.Now
			n2 := start(t, o2).ready()
			o3 := joining(t, n1, "n3", n1.joinToken(conf.MemberServer).Token)
			o3.Now = clock.Now
			n3 := start(t, o3).ready()
			o4 := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
			o4.Now = clock.Now
			side := start(t, o4).ready()
			n1.Await("three voters", func() bool { return n1.status().Voters == 3 })
			for _, r := range []*running{side, n3, n2, n1} {
				r.Stop()
			}

			clock.Set(0)
			all := []*running{start(t, o1), start(t, o2), start(t, o3), start(t, o4)}
			for _, r := range all {
				r.ready()
				r.Await("a certificate that is valid by the right clock", func() bool {
					id := r.Rooms().Cluster.Port.Identity()
					return !id.NotYetValid(time.Now()) && !id.NeedsRenewal(time.Now())
				})
			}
			all[0].lead(all[1:3]...)
			late := joining(t, all[0], "n5", all[0].joinToken(conf.MemberServer).Token)
			n5 := start(t, late).ready()
			if code, body := n5.set("7"); code != http.StatusOK {
				t.Errorf("a change through the member that joined: %d %s", code, body)
			}
		})
	}
}

// What an agent serves that hears no leader is not fresh, whatever its clock says.
func TestAgeWithAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	clock := new(testenv.Clock)
	o := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	o.Now = clock.Now
	side := start(t, o).ready()
	side.Await("the document", func() bool { return side.Local("/v1/config/demo").Status == http.StatusOK })
	side.Stop()
	n1.Stop()
	clock.Set(-day)
	side = start(t, o)
	r := side.Local("/v1/config/demo")
	age, err := strconv.Atoi(r.Header.Get("X-Config-Age"))
	if r.Status != http.StatusOK || err != nil || time.Duration(age)*time.Second < day-time.Minute {
		t.Errorf("%d, age %q of what a day and more lies between", r.Status, r.Header.Get("X-Config-Age"))
	}
	clock.Set(-2 * day) // the age is not counted by it
	before := age
	side.Await("the age to grow", func() bool {
		age, err := strconv.Atoi(side.Local("/v1/config/demo").Header.Get("X-Config-Age"))
		return err == nil && age > before && age < before+int(testenv.Patience/time.Second)
	})
}

// A leader is an hour ahead, writes, and its clock is corrected. Observers whose clock is
// right, one whose clock was as wrong, and a new one read what it writes then, with an age.
func TestObserversOfALeaderThatWasAhead(t *testing.T) {
	t.Parallel()
	clock := new(testenv.Clock)
	clock.Set(time.Hour)
	o := testenv.Options(t, nil)
	o.MQTTAddr, o.Now = "127.0.0.1:0", clock.Now
	member := start(t, o).ready()
	if code, body := member.set("41"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	env := map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": base64.StdEncoding.EncodeToString(member.Rooms().Keys.Set().Public),
		"CONFIG_OBSERVE_URL": "mqtt://" + member.Rooms().Broker.Addr().String(),
	}
	right := observe(t, testenv.Options(t, env))
	wrong := testenv.Options(t, env)
	wrong.Now = clock.Now
	withIt := observe(t, wrong)
	for _, r := range []*observing{right, withIt} {
		r.serves("41", "replica")
	}

	clock.Set(0)
	member.Await("a signature by the right clock", func() bool {
		at, err := conf.ParseTime(member.record("demo").IssuedAt)
		return err == nil && at.Before(time.Now().Add(time.Minute))
	})
	if code, body := member.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	fresh := observe(t, testenv.Options(t, env))
	for _, r := range []*observing{right, withIt, fresh} {
		r.serves("42", "replica")
		r.Await("an age that counts from the right time", func() bool {
			_, h, _ := r.get("/v1/config/demo")
			age, err := strconv.Atoi(h.Get("X-Config-Age"))
			return err == nil && age < 600
		})
	}
	issued, err := conf.ParseTime(member.record("demo").IssuedAt)
	if err != nil || issued.After(time.Now().Add(time.Minute)) {
		t.Errorf("the new version is issued at %s: %v", issued, err)
	}
}

// Members whose clocks differ say so in their health and metrics, and stay in order.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	clock := new(testenv.Clock)
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)
	o.Now = clock.Now
	start(t, o).ready()
	clock.Set(-2 * time.Hour)
	n1.Await("the difference of the clocks in health", func() bool {
		n1.status() // a contact
		h := n1.Health()
		return h.Err != nil && strings.Contains(*h.Err, "the clock of n2 is 2h0m0s behind") && h.OK
	})
	if m := string(n1.Local("/metrics").Body); !strings.Contains(m, `holdfast_clock_skew_seconds{member="n2"} -7`) {
		t.Error("no metric of the difference")
	}
	clock.Set(0)
	n1.Await("the all-clear", func() bool { n1.status(); return n1.Health().Err == nil })
}
