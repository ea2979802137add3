package pagetest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// history is the newest change of a key, as the admin API tells it.
func history(t *testing.T, a *testenv.API, service, key string) (version uint64, value any, reason string) {
	t.Helper()
	var out struct {
		Results []struct {
			Version uint64 `json:"version"`
			Value   any    `json:"new_value"`
			Reason  string `json:"change_reason"`
		} `json:"results"`
	}
	r := a.Admin("GET", "/api/config/history?service="+service+"&key="+key+"&limit=1", "").OK(t)
	if err := json.Unmarshal(r.Body, &out); err != nil || len(out.Results) != 1 {
		t.Fatalf("the history of %s %s: %s", service, key, r)
	}
	return out.Results[0].Version, out.Results[0].Value, out.Results[0].Reason
}

// TestFirstChange is the way of a person who opens the page for the first time: sign in, find a
// value, change it, see what differs, say why, save.
func TestFirstChange(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	before := a.Document("stt-worker").Metadata.Version
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Shot("services")
	p.Click("stt-worker")
	p.Shows("Voice activity detection threshold")
	p.Shot("service")
	p.Press("e")
	p.Enter("i-vad_threshold", "1.5")
	p.Shows("must be at most 1 (allowed 0 to 1), got 1.5")
	p.Confirm()
	p.Await("the focus on the summary of errors", "document.activeElement.id === 'summary' && document.activeElement.innerText.includes('vad_threshold')")
	p.Shot("invalid")
	p.Enter("i-vad_threshold", "0.65")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .old')?.textContent.includes('0.5') && document.querySelector('dialog .new').textContent.includes('0.65')")
	p.Write("quiet voices were not heard")
	p.Shot("review")
	p.Confirm()
	p.Shows("Saved as v")
	p.Shot("saved")
	version, value, reason := history(t, &a.API, "stt-worker", "vad_threshold")
	if version != before+1 || value != 0.65 || reason != "quiet voices were not heard" {
		t.Errorf("saved v%d %v %q; want v%d 0.65 with the reason", version, value, reason, before+1)
	}
	if got := fmt.Sprint(a.Document("stt-worker").Values["vad_threshold"]); got != "0.65" {
		t.Errorf("the service reads %v", got)
	}
	p.Await("who, when and why beside the value", "document.getElementById('f-vad_threshold').innerText.includes('quiet voices were not heard')")
	p.Press(kb.Escape)
}

// TestLink opens the address that "holdfast dev" prints: it signs in once, leaves nothing of itself in
// the address, and is worth nothing afterwards.
func TestLink(t *testing.T) {
	t.Parallel()
	a := testenv.NewAgent(t)
	dev := testenv.Spawn(t, t.TempDir(), a.Env(), testenv.Binary(t, "./cmd/holdfast"), "dev")
	address := regexp.MustCompile(`http://\S+#link=\S+`)
	testenv.Await(t, "the address of the page", func() bool { return address.MatchString(dev.Output()) })
	link := address.FindString(dev.Output())
	p := browser.Open(t)
	p.Visit(link)
	p.Await("the list of services, without a token", "document.querySelector('h1')?.textContent === 'Services' && location.hash === '#/services'")
	if browser.Eval[bool](p, "location.href.includes('link=')") {
		t.Error("the link stays in the browser")
	}
	other := browser.Open(t)
	other.Visit(link)
	other.Shows("This link was used already or has expired")
	if at := browser.Eval[string](other, "location.href"); strings.Contains(at, "link=") {
		t.Errorf("the address still has the link: %s", at)
	}
}

// TestFirstMinute is the walk of somebody who starts the demo: open the printed address, change
// a value, see the difference, save, and see the service beside it print the new value.
func TestFirstMinute(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "python3")
	a := testenv.NewAgent(t)
	dev := testenv.Spawn(t, t.TempDir(), a.Env(), testenv.Binary(t, "./cmd/holdfast"), "dev")
	address := regexp.MustCompile(`http://\S+#link=\S+`)
	testenv.Await(t, "the address of the page", func() bool { return address.MatchString(dev.Output()) })
	service := testenv.Spawn(t, t.TempDir(), []string{
		"CONFIG_AGENT_URL=http://" + a.LocalAddr, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_KEY=vad_threshold", "no_proxy=*",
	}, "python3", filepath.Join(testenv.Root(), "testenv", "services", "python", "service.py"))
	testenv.Await(t, "the service to print its value", func() bool { return service.Transcript().Has("config vad_threshold=0.5 ") })

	p := browser.Open(t)
	p.Visit(address.FindString(dev.Output()))
	p.Shows("stt-worker")
	p.Click("stt-worker")
	p.Shows("Voice activity detection threshold")
	p.Click("Edit")
	p.Enter("i-vad_threshold", "0.65")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Click("Review changes")
	p.Await("the difference", "document.querySelector('dialog .old')?.textContent.includes('0.5') && document.querySelector('dialog .new').textContent.includes('0.65')")
	p.Write("quiet voices were not heard")
	p.Await("the button that saves", "[...document.querySelectorAll('dialog button')].some((b) => b.innerText.startsWith('Save as v'))")
	p.Run("[...document.querySelectorAll('dialog button')].find((b) => b.innerText.startsWith('Save as v')).click()")
	p.Shows("Saved as v")
	testenv.Await(t, "the service to print the new value", func() bool { return service.Transcript().Has("config vad_threshold=0.65 ") })
}
