package pagetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// author is somebody who changes stt-worker in steps, on the page of the first instance.
type author struct {
	*browser.Tab
	fleet
}

// start changes vad_threshold and lets one instance have it first. It returns the id of the rollout, and the
// number of the instance that has it.
func (p author) start(value, reason string) (id string, instance int) {
	p.T.Helper()
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", value)
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the way to one first", "document.querySelector('dialog .pick')?.innerText.includes('1 instance, 25 %, all')")
	p.Write(reason)
	p.Click("One first")
	p.Click("Start the rollout of v")
	p.Await("the rollout", "location.hash.startsWith('#/rollouts/') && text().includes('step 1 of 3')")
	id = strings.TrimPrefix(browser.Eval[string](p.Tab, "location.hash"), "#/rollouts/")
	testenv.Await(p.T, "an instance that has the candidate", func() bool {
		for i, n := range p.Nodes {
			if doc, err := n.TryDocument("stt-worker"); err == nil && doc.Metadata.Rollout == id {
				instance = i + 1
			}
		}
		return instance > 0
	})
	return id, instance
}

// state is what the API says of a rollout.
func (p author) state(id string) (out conf.RolloutInfo) {
	p.T.Helper()
	p.Nodes[0].Try("GET", "/api/config/rollouts/"+id, "").Into(p.T, &out)
	return out
}

// runs awaits that every instance serves a value.
func (p author) runs(value string) {
	p.T.Helper()
	for _, n := range p.Nodes {
		testenv.Await(p.T, n.ID+" to serve "+value, func() bool {
			doc, err := n.TryDocument("stt-worker")
			return err == nil && fmt.Sprint(doc.Values["vad_threshold"]) == value
		})
	}
}

// TestRollout has somebody change a service in steps: one change is paused, resumed and replaced by a save
// for all, one is refused and comes back by itself, one is promoted, one is aborted.
func TestRollout(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	p := author{browser.Open(t), f}
	p.SignIn(f.Nodes[0].AdminAddr, testenv.WriteToken)
	for _, part := range []struct {
		name string
		run  func(*testing.T, author)
	}{{"paused and replaced", pausedAndReplaced}, {"refused", refused}, {"promoted", promoted}, {"aborted", aborted}} {
		if !t.Run(part.name, func(t *testing.T) { p.T, p.t = t, t; part.run(t, p) }) {
			break // the next one needs what this leaves
		}
	}
	p.T, p.t = t, t
}

func pausedAndReplaced(t *testing.T, p author) {
	id, on := p.start("0.61", "a quieter room")
	p.Shows("v1", "v2", "Revert, signed in advance", "has not said yet", "a quieter room")
	p.says(on, 2, conf.InstanceApplied, "")
	p.Shows("step 1 of 3, baking", "approved", "Nobody refused.")
	for _, width := range []int64{1280, 320} {
		p.Size(width, 900)
		p.ForEverybody(fmt.Sprintf("a rollout at %d px", width))
	}
	p.Size(1280, 900)
	p.Shot("rollout")
	if why := p.Off("Pause"); why != "" {
		t.Errorf("a rollout that runs cannot be paused: %s", why)
	}
	p.Click("Pause")
	p.Shows("nobody else gets it")
	p.ForEverybody("pausing a rollout")
	p.Write("until tomorrow")
	p.Click("Pause")
	p.Shows("Paused.", "until tomorrow", "paused in step 1 of 3")
	if r := p.state(id); r.State != conf.RolloutPaused || !strings.Contains(r.Paused, "until tomorrow") {
		t.Errorf("the API says %+v", r)
	}
	p.Click("Resume")
	p.Shows("step 1 of 3, baking")

	// Who may only read sees all of it, and why nothing can be decided.
	reader := browser.Open(t)
	reader.SignIn(p.Nodes[0].AdminAddr, testenv.ReadToken)
	reader.Open("/rollouts/" + id)
	for _, name := range []string{"Promote now", "Pause", "Abort"} {
		if why := reader.Off(name); !strings.Contains(why, "config.read") {
			t.Errorf("%s is off for a reader: %q", name, why)
		}
	}
	reader.ForEverybody("a rollout, for a reader")
	reader.Open("/services")
	reader.Shows("1 running", "step 1")

	// Another save says what is in the way, and may end it.
	p.Open("/services/stt-worker")
	p.Shows("v2 goes out in steps: step 1 of 3, baking.")
	p.Press("e")
	p.Enter("i-vad_threshold", "0.62")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Shows("A rollout of stt-worker is in the way: v2", "Saving ends it")
	p.ForEverybody("a save that ends a rollout")
	p.Shot("rollout-active")
	p.Click("Save as v4, end the rollout")
	p.Shows("Saved as v4")
	p.runs("0.62")
	if r := p.state(id); r.State != conf.RolloutSuperseded {
		t.Errorf("the API says %+v", r)
	}
	p.Open("/rollouts")
	p.Shows("None runs now.", "replaced")
	p.ForEverybody("the list of rollouts")
	p.Shot("rollouts")
}

func refused(t *testing.T, p author) {
	id, on := p.start("0.63", "another microphone")
	p.says(on, 5, conf.InstanceRejected, refusal)
	p.Shows("Rolled back: v6 for all", "port in use")
	p.runs("0.62")
	if r := p.state(id); r.State != conf.RolloutRolledBack || r.Stable != 6 {
		t.Errorf("the API says %+v", r)
	}
	p.ForEverybody("a rollout that came back")
	p.Shot("rolled-back")
	p.Open("/services/stt-worker/instances")
	p.Shows(fmt.Sprintf("stt-%d", on))
}

func promoted(t *testing.T, p author) {
	id, on := p.start("0.64", "the third one")
	p.says(on, 7, conf.InstanceApplied, "")
	p.Shows("step 1 of 3, baking")
	p.Click("Promote now")
	p.Shows("without the rest of the bake")
	p.Write("it is late")
	p.Click("Promote v7")
	p.Shows("Completed: v7 is stable.")
	p.runs("0.64")
	if r := p.state(id); r.State != conf.RolloutCompleted || r.Stable != 7 {
		t.Errorf("the API says %+v", r)
	}
}

func aborted(t *testing.T, p author) {
	id, _ := p.start("0.65", "the last one")
	p.Click("Abort")
	p.Shows("which has the values of v7")
	p.Press(kb.Escape)
	p.Await("the dialog to close", "!document.querySelector('dialog[open]')")
	if r := p.state(id); r.State != conf.RolloutRunning {
		t.Errorf("a closed dialog did something: %+v", r)
	}
	p.Click("Abort")
	p.Write("not today")
	p.Confirm()
	p.Shows("Rolled back: v10 for all", "not today")
	p.runs("0.64")
}
