package pagetest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestCannotStart opens the page of an agent that cannot start: nobody can sign in there, and the page says
// why. It goes on by itself when the cause is gone.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.7")
	a.Stop()
	id, err := os.ReadFile(a.Path("node-id"))
	if err != nil {
		t.Fatal(err)
	}
	damage := func(with []byte) {
		t.Helper()
		if err := os.WriteFile(a.Path("node-id"), with, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage([]byte("somebody-else\n"))
	a.Start()
	a.AwaitHealth("the agent to say that it cannot start", func(h conf.Health) bool { return h.OperationalMode == conf.ModeReadOnly })

	// Who has the page open keeps it, with the draft.
	p.Await("the banner", "document.querySelector('.banner')?.innerText.includes('this agent cannot start')")
	p.AwaitOff("Review changes", "Changes are off: this agent cannot start")
	// Who comes now is told the same.
	late := browser.Open(t)
	late.Visit("http://" + a.AdminAddr + "/")
	late.Shows("Read-only: this agent cannot start.", "Services keep reading its last-known-good file.", "This page asks again by itself.")
	late.ForEverybody("an agent that cannot start")
	late.Shot("cannot-start")

	damage(id)
	p.Await("the banner to go by itself", "!document.querySelector('.banner') && document.querySelector('.savebar').innerText.includes('checked')")
	if got := browser.Eval[string](p, "document.getElementById('i-vad_threshold').value"); got != "0.7" {
		t.Errorf("the draft is %q", got)
	}
	late.Await("the way in", "document.getElementById('token')")
}

// TestLastKnownGood opens the page of an agent whose database is gone: it shows what the last-known-good
// file has, says so in one banner, and comes back by itself when the database is there again.
func TestLastKnownGood(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	a.Patch("stt-worker", `{"vad_threshold":0.6}`)
	a.Stop()
	a.WreckReplica()
	a.Start()
	a.AwaitHealth("the agent to say that it only reads, and why", func(h conf.Health) bool {
		return h.OperationalMode == conf.ModeReadOnly && h.Err != nil
	})
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Await("the banner, with the age of what is shown", "document.querySelectorAll('.banner').length === 1 && document.querySelector('.banner').innerText.includes(' old')")
	banner := browser.Eval[string](p, "document.querySelector('.banner').innerText")
	for _, want := range []string{"Read-only: this agent serves from its last-known-good file.", " old", "Services keep reading it.", "This page recovers by itself."} {
		if !strings.Contains(banner, want) {
			t.Errorf("the banner does not say %q: %s", want, banner)
		}
	}
	p.ForEverybody("the banner")
	p.Shot("lkg-services")
	p.Open("/services/stt-worker")
	p.Await("the value of the file", "document.getElementById('f-vad_threshold')?.innerText.includes('0.6')")
	p.Shot("lkg-service")
	if why := p.Off("Edit"); why != "" {
		t.Errorf("nothing can be typed: %s", why)
	}
	p.Press("e")
	p.Enter("i-vad_threshold", "0.7")
	p.AwaitOff("Review changes", "Changes are off: this agent serves from its last-known-good file")
	p.Shot("lkg-edit")
	for _, view := range []string{"/services/stt-worker/history", "/services/stt-worker/schema", "/services/llm-worker/secrets", "/profiles", "/cog/cluster", "/cog/health", "/cog/backup", "/cog/keys", "/cog/tokens", "/cog/access", "/cog/about"} {
		p.Open(view)
		p.Await("one banner", "document.querySelectorAll('.banner').length === 1")
		p.Shot("lkg" + strings.ReplaceAll(view, "/", "-"))
	}
	p.At("/services/stt-worker?edit")
	p.Await("the draft", "document.getElementById('i-vad_threshold')?.value === '0.7'")

	testenv.Do("POST", "http://"+a.AdminAddr+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`, "Content-Type: application/json").OK(t)
	p.Await("the banner to go by itself", "!document.querySelector('.banner')")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	before := a.Document("stt-worker").Metadata.Version
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 1")
	p.Confirm()
	// The rebuild made a version. Where the page had not heard of it, it is found when saving, and the
	// difference is shown once more, on top of it.
	p.Await("the end, or the difference on top of the rebuilt version", "text().includes('Saved as v') || document.querySelector('dialog')?.innerText.includes('came first')")
	p.Confirm()
	p.Shows(fmt.Sprintf("Saved as v%d", before+1))
	if got := fmt.Sprint(a.Document("stt-worker").Values["vad_threshold"]); got != "0.7" {
		t.Errorf("saved after the rebuild: %s", got)
	}
}
