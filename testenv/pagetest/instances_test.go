package pagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// fleet is a cluster whose agents are instances of stt-worker: a server, and sidecars.
type fleet struct {
	*testenv.Cluster
	t *testing.T
}

// startFleet starts n instances, stt-1 to stt-n. Every process of the host may acknowledge at them.
func startFleet(t *testing.T, n int) fleet {
	t.Helper()
	f := fleet{testenv.NewCluster(t, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_ACK_OPEN=1"), t}
	for i := 1; i <= n; i++ {
		role := conf.MemberServer
		if i > 1 {
			role = conf.MemberSidecar
		}
		f.Join(role, fmt.Sprintf("CONFIG_INSTANCE=stt-%d", i), fmt.Sprintf("CONFIG_LABELS=zone=%c", 'a'+i%2))
	}
	return f
}

// says has the service beside an instance acknowledge what its agent serves, once that is a version. It
// returns when the agent has taken its word.
func (f fleet) says(instance int, version uint64, status conf.InstanceStatus, more string) {
	f.t.Helper()
	n := f.Nodes[instance-1]
	testenv.Await(f.t, fmt.Sprintf("stt-%d to have %s v%d", instance, status, version), func() bool {
		doc, err := n.TryDocument("stt-worker")
		if err != nil || doc.Metadata.Version != version {
			return false
		}
		body := fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":%q%s}`, version, doc.Metadata.Epoch, status, more)
		return testenv.Do("POST", "http://"+n.LocalAddr+"/v1/ack/stt-worker", body).Status == 202
	})
}

// instances is what the API of an agent says.
func (f fleet) instances(of *testenv.Node) (out conf.Instances) {
	f.t.Helper()
	of.Try("GET", "/api/config/services/stt-worker/instances", "").Into(f.t, &out)
	return out
}

const refusal = `,"reason":"port in use","worker":"w1","details":[{"key":"vad_threshold","message":"the detector restarts, but its port 9101 is still in use"}]`

// TestInstances has four instances take a change, of which one refuses: who saved it sees that on the page,
// in the words of the service, without a reload, and takes it back from there.
func TestInstances(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 4)
	p := browser.Open(t)
	p.SignIn(f.Nodes[0].AdminAddr, testenv.WriteToken)
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.65")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .change')")
	p.Confirm()
	p.Shows("Saved as v2")
	for _, i := range []int{1, 3, 4} {
		f.says(i, 2, conf.InstanceApplied, "")
	}
	p.Shows("4 of 4 instances have it", "Who runs it")
	began := time.Now()
	f.says(2, 2, conf.InstanceRejected, refusal)
	p.Shows("stt-2 refuses v2", "“port in use”")
	t.Logf("the refusal is on the page after %v", time.Since(began).Round(time.Millisecond))
	p.ForEverybody("a refusal")
	p.Shot("refusal")

	p.Click("See stt-2")
	p.Settled("/services/stt-worker/instances")
	p.Shows("3 of 4 run v2; stt-2 refused: port in use", "stt-2, in its own words", "the detector restarts, but its port 9101 is still in use", "by worker w1", "zone=b", "Who reads which key")
	if all := f.instances(f.Nodes[0]); all.Summary != "3 of 4 run v2; stt-2 refused: port in use" || !all.Complete {
		t.Errorf("the API says %+v", all)
	}
	for _, width := range []int64{1280, 320} {
		p.Size(width, 900)
		p.ForEverybody(fmt.Sprintf("instances at %d px", width))
	}
	p.Shot("instances")
	p.Size(1280, 900)

	// The values of before come back from the note, and the page follows without a reload.
	p.Open("/services/stt-worker")
	p.Click("Restore v1")
	p.Await("what is restored", "document.querySelector('dialog .change')")
	p.Write("stt-2 refuses it")
	p.Confirm()
	p.Shows("Saved as v3")
	p.Open("/services/stt-worker/instances")
	for i := range 4 {
		f.says(i+1, 3, conf.InstanceApplied, "")
	}
	p.Shows("4 of 4 run v3")
	if got := fmt.Sprint(f.Nodes[1].Document("stt-worker").Values["vad_threshold"]); got != "0.5" {
		t.Errorf("stt-2 has %s again", got)
	}

	// Without a leader an agent knows of itself only, or of nobody, and says so.
	late := browser.Open(t)
	late.SignIn(f.Nodes[1].AdminAddr, testenv.WriteToken)
	late.Open("/services/stt-worker/instances")
	late.Shows("4 of 4 run v3")
	f.Nodes[0].Kill()
	late.Await("that the list is not complete, and why", "text().includes('This list may not be complete.') || text().includes('This could not be read again.')")
	late.ForEverybody("instances without a leader")
	late.Shot("instances-incomplete")
	f.Nodes[0].Restart()
	late.Await("the whole list", "text().includes('4 of 4 run v3') && !text().includes('may not be complete') && !text().includes('could not be read again')")
}
