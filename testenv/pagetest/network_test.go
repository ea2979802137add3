package pagetest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// watched is a tab of which every request is looked at.
type watched struct {
	*browser.Tab
	addr string
}

// at says where the person is, and fails the test for what the tab asked since: anything but the page,
// its files and the admin API of the agent that serves it. It returns how many addresses of the API there were.
func (w watched) at(place string) (api int) {
	w.T.Helper()
	for _, u := range w.Asked() {
		if elsewhere(u, w.addr) {
			w.T.Errorf("%s takes something from %s", place, u)
		} else if strings.HasPrefix(u.Path, "/api/") {
			api++
		}
	}
	return api
}

// elsewhere tells whether an address is neither the page, nor one of its files, nor the admin API.
func elsewhere(u *url.URL, addr string) bool {
	own := u.Scheme == "http" && u.Host == addr && u.User == nil
	return !own || u.Path != "/" && !strings.HasPrefix(u.Path, "/ui/") && !strings.HasPrefix(u.Path, "/api/")
}

// dialog opens a dialog by a control, looks at what that asked, and closes it.
func (w watched) dialog(place, control string) {
	w.T.Helper()
	w.Click(control)
	w.Await("the dialog of "+control, "document.querySelector('dialog[open]') && !document.querySelector('dialog .ghost, dialog [aria-busy=true]') && await quiet()")
	w.at(place + ", " + control)
	w.Press(kb.Escape)
	w.Await("the dialog to close", "!document.querySelector('dialog[open]')")
}

// TestAdminAPIAlone goes through every view and every kind of dialog, and through the outage of the agent:
// all of it is drawn from the admin API of the agent that serves the page, and nothing from elsewhere.
func TestAdminAPIAlone(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t, "LITESTREAM_S3_ENDPOINT=file://"+t.TempDir(), "LITESTREAM_S3_PATH=prod")
	a.Patch("stt-worker", `{"vad_threshold":0.6}`)
	a.Patch("stt-worker", `{"vad_threshold":0.7}`)
	a.Admin("PUT", "/api/config/profiles/night", `{"services":{"tts-worker":{"volume_percent":20}}}`).OK(t)
	a.Admin("PUT", "/api/config/services/llm-worker/secrets/proxy_password", `{"value":"x"}`).OK(t)
	p := watched{browser.Open(t), a.AdminAddr}
	p.Record()
	p.Visit("http://" + a.AdminAddr + "/")
	p.Enter("token", "not-the-token")
	p.Press(kb.Enter)
	p.Shows("The token is wrong")
	p.at("the way in")
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.at("signing in")

	for _, place := range places("stt-worker") {
		p.Open("/nothing")
		p.Asked()
		p.Open(place)
		if api := p.at(place); api == 0 && !strings.Contains(place, "nothing") && place != "/services" && place != "/add" && place != "/cog/about" {
			t.Errorf("%s asked the API nothing: it was not looked at", place)
		}
	}
	for _, d := range []struct{ place, control string }{
		{"/services", "Keyboard"},
		{"/services/llm-worker/secrets", "Set proxy_password"},
		{"/services/llm-worker/secrets", "Reveal proxy_password"},
		{"/services/stt-worker/history", "Restore v"},
		{"/profiles", "Save current values"},
		{"/profiles", "Activate night"},
		{"/cog/cluster", "Add an agent"},
		{"/cog/keys", "Rotate hmac"},
		{"/cog/tokens", "New token"},
	} {
		p.Open(d.place)
		p.dialog(d.place, d.control)
	}
	for _, d := range []struct{ place, menu, item string }{
		{"/services/stt-worker", "More", "Export as JSON"},
		{"/services/stt-worker", "More", "Delete the service"},
		{"/services/llm-worker/secrets", "More of proxy_password", "Remove"},
		{"/profiles", "More of night", "Delete night"},
	} {
		p.Open(d.place)
		p.Click(d.menu)
		p.dialog(d.place, d.item)
	}
	networkOfChanges(t, a, p)
	networkOfOutage(t, a, p)
	p.caught()
}

// networkOfChanges does what changes something: save, merge, reveal, compare schemas, run a drill.
func networkOfChanges(t *testing.T, a *testenv.Agent, p watched) {
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.4")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .change')")
	p.at("the difference before saving")
	p.Press(kb.Escape)
	a.Patch("stt-worker", `{"vad_threshold":0.8}`)
	p.Click("Decide")
	p.Await("the choice", "document.querySelector('main input[type=radio]')")
	p.at("the merge")
	p.Run("document.querySelector('main label.info input').click()")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .change')")
	p.Confirm()
	p.Shows("Saved as v")
	p.at("saving")

	p.Open("/services/llm-worker/secrets")
	p.Click("Reveal proxy_password")
	p.Fill("Why do you need to see it?", "a test")
	p.Click("Reveal for 30 s")
	p.Shows("hidden in")
	p.at("a revealed secret")

	p.Open("/services/stt-worker/schema")
	file := filepath.Join(t.TempDir(), "stt-worker.json")
	if err := os.WriteFile(file, []byte(`{"type":"object","properties":{"vad_threshold":{"type":"number","maximum":0.1,"default":0}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(p.Ctx, chromedp.SetUploadFiles(chromedp.CSS(`input[type=file]`), []string{file}, chromedp.NodeReady)); err != nil {
		t.Fatal(err)
	}
	p.Shows("would break")
	p.at("the comparison of schemas")

	p.Open("/cog/cluster")
	p.Click("Add an agent")
	p.Click("Make the command")
	p.Shows("Waiting for the agent to join")
	p.at("the command by which an agent joins")
	p.Click("Done")
	p.Open("/cog/backup")
	p.Click("Run a drill now")
	p.Shows("Restored and compared")
	p.at("a drill")

	p.Run("await fetch('/api/session', { method: 'DELETE' })")
	p.At("/cog/tokens")
	p.Shows("Your session has ended")
	p.Enter("again", testenv.WriteToken)
	p.Press(kb.Enter)
	p.Await("the dialog to close", "!document.querySelector('dialog[open]')")
	p.at("signing in again")
}

// networkOfOutage has the agent serve its last-known-good file only, and goes through the views again.
func networkOfOutage(t *testing.T, a *testenv.Agent, p watched) {
	a.Stop()
	p.Shows("This agent does not answer.")
	p.at("an agent that does not answer")
	a.WreckReplica()
	a.Start()
	a.AwaitHealth("the agent to say that it only reads, and why", func(h conf.Health) bool {
		return h.OperationalMode == conf.ModeReadOnly && h.Err != nil
	})
	p.Await("the banner", "document.querySelector('.banner')?.innerText.includes('last-known-good file')")
	p.at("the last-known-good file")
	for _, place := range places("stt-worker") {
		p.Open(place)
		p.at(place + " in an outage")
	}
}

// caught holds that the watch sees a request and an image from elsewhere: it would see those of a view.
func (w watched) caught() {
	w.T.Helper()
	other := httptest.NewServer(http.NotFoundHandler())
	w.T.Cleanup(other.Close)
	w.Run("await fetch(a[0] + '/data').catch(() => {}); document.body.append(Object.assign(new Image(), { src: a[0] + '/beacon' })); await quiet()", other.URL)
	var seen []string
	testenv.Await(w.T, "both to be seen", func() bool {
		for _, u := range w.Asked() {
			if elsewhere(u, w.addr) {
				seen = append(seen, u.Path)
			}
		}
		return slices.Contains(seen, "/data") && slices.Contains(seen, "/beacon")
	})
	w.Problems() // a browser complains about both
}
