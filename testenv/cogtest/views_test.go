package cogtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// markup is text that would run, if anything took it for more than text.
const markup = `<img src=x onerror="document.title='run'"><b>quiet</b>`

// text is a value of the API as a person would type it.
func text(v any) string { return fmt.Sprint(v) }

// TestProfiles saves the values of now as a profile, compares two, activates one after
// a look at what changes, and deletes it.
func TestProfiles(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	a.Admin("PUT", "/api/config/profiles/night", `{"description":`+quote(markup)+`,"services":{"tts-worker":{"volume_percent":20},"stt-worker":{"vad_threshold":0.7}}}`).OK(t)
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/profiles")
	p.Shows(markup, "2 values differ", "2 services, 2 values")

	p.Click("Activate night")
	p.Shows("2 values of 2 services, all or none")
	got := browser.Eval[[]string](p, `[...document.querySelectorAll('dialog .change:not(.of)')].map((n) => [n.querySelector('.key'), n.querySelector('.old'), n.querySelector('.new')].map(words).join(' '))`)
	if want := []string{"vad_threshold 0.5 0.7", "volume_percent 100 20"}; !slices.Equal(got, want) {
		t.Errorf("the preview says %q, want %q", got, want)
	}
	p.Fill("Why?", "bedtime")
	p.Click("Activate night")
	p.Shows("night is active.", "matches current values")
	if doc := a.Document("tts-worker"); text(doc.Values["volume_percent"]) != "20" {
		t.Errorf("after activating, volume_percent is %v", doc.Values["volume_percent"])
	}
	history := struct {
		Results []struct {
			ChangeReason string `json:"change_reason"`
		}
	}{}
	a.Admin("GET", "/api/config/history?service=tts-worker&limit=1", "").Into(t, &history)
	if len(history.Results) != 1 || history.Results[0].ChangeReason != "bedtime" {
		t.Errorf("the history of tts-worker says %+v", history.Results)
	}

	p.Click("Save current values")
	p.Fill("Name", "<b>")
	if why := p.Off("Save <b>"); why == "" {
		t.Error("a profile may be named <b>")
	}
	p.Fill("Name", "evening")
	p.Click("camera-service")
	p.Click("Save evening")
	p.Shows("Saved evening.", "8 services, 2 values")
	saved := struct{ Services map[string]map[string]any }{}
	a.Admin("GET", "/api/config/profiles/evening", "").Into(t, &saved)
	if _, there := saved.Services["camera-service"]; there || text(saved.Services["stt-worker"]["vad_threshold"]) != "0.7" {
		t.Errorf("the profile evening has %v", saved.Services)
	}

	// A name that is taken says so, before anything is lost; so does saving over a profile.
	a.Patch("stt-worker", `{"vad_threshold":0.3}`)
	p.Click("Save current values")
	p.Fill("Name", "evening")
	p.Shows("evening exists: its values are replaced.")
	p.Click("Cancel")
	p.Click("More of evening")
	p.Click("Save current values over evening")
	p.Click("Replace evening")
	testenv.Await(t, "evening to be saved over", func() bool {
		a.Admin("GET", "/api/config/profiles/evening", "").Into(t, &saved)
		return text(saved.Services["stt-worker"]["vad_threshold"]) == "0.3"
	})
	p.Await("the dialog to close", "!document.querySelector('dialog[open]')")

	p.Click("More of night")
	p.Click("Delete night")
	p.Click("Delete night")
	p.Shows("Deleted night.")
	if r := a.Admin("GET", "/api/config/profiles/night", ""); r.Status != 404 {
		t.Errorf("the profile night is still there: %v", r)
	}
	if title := browser.Eval[string](p, "document.title"); !strings.HasPrefix(title, "Profiles") {
		t.Errorf("markup ran: the title is %q", title)
	}
}

// TestSecrets sets a secret, reveals it with a reason, and looks for its value in the
// whole page before, while and after it is shown.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const value = `s3cret<b>&"value`
	a := testenv.StartProcess(t)
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/services/llm-worker/secrets")
	if why := p.Off("Set openai_api_key"); !strings.Contains(why, "OPENAI_API_KEY") {
		t.Errorf("a secret of the environment may be set: %q", why)
	}
	if why := p.Off("Reveal proxy_password"); why == "" {
		t.Error("a secret without a value may be revealed")
	}
	p.Click("Set proxy_password")
	p.Fill("New value", value)
	p.Fill("Reason", "quarterly change")
	p.Click("Set the secret")
	p.Shows("Set proxy_password, as v2.", "set, stored")
	if at := p.Everywhere("s3cret"); len(at) > 0 {
		t.Errorf("the value is in %v after it was set", at)
	}

	p.Click("Reveal proxy_password")
	if why := p.Off("Reveal for 30 s"); why == "" {
		t.Error("a value is revealed without a reason")
	}
	p.Fill("Why do you need to see it?", "restoring the proxy")
	later(p, 0) // from here on time stands, however slow the machine is
	p.Click("Reveal for 30 s")
	p.Shows(value, "hidden in")
	if live := browser.Eval[string](p, "document.querySelector('[role=status]').textContent"); strings.Contains(live, "s3cret") {
		t.Errorf("the live region has the value: %q", live)
	}
	var log struct {
		Results []struct {
			Key, Reason string
			Success     bool
		}
	}
	a.Admin("GET", "/api/config/access?action=reveal_secret&service=llm-worker", "").Into(t, &log)
	if len(log.Results) != 1 || log.Results[0].Key != "proxy_password" || log.Results[0].Reason != "restoring the proxy" {
		t.Errorf("the access log has %+v", log.Results)
	}

	// 29 seconds later it is still there, 30 seconds later nowhere.
	later(p, 29_000)
	p.Shows("hidden in 1 s")
	later(p, 30_000)
	p.Await("the value to be hidden", "!text().includes('hidden in')")
	if at := p.Everywhere("s3cret"); len(at) > 0 {
		t.Errorf("the value is in %v after its 30 seconds", at)
	}
	p.Shows("restoring the proxy")

	// Leaving the view hides it at once.
	p.Click("Reveal proxy_password")
	p.Fill("Why do you need to see it?", "again")
	p.Click("Reveal for 30 s")
	p.Shows(value)
	p.Open("/profiles")
	p.Open("/services/llm-worker/secrets")
	if at := p.Everywhere("s3cret"); len(at) > 0 {
		t.Errorf("the value is in %v after the view was left", at)
	}
	p.Click("More of proxy_password")
	p.Click("Remove")
	p.Click("Remove the secret")
	p.Shows("Removed proxy_password, as v3.")
}

// later sets the time of the page: so many milliseconds after it was set first. It stands.
func later(p *browser.Tab, ms int) {
	p.T.Helper()
	p.Run(`const { clock } = await import('/ui/lib/clock.js'); const t0 = window.t0 ??= Date.now(); clock.now = () => t0 + a[0]`, ms)
}

// TestSchema uploads a schema that refuses a stored value, corrects the value, and
// stores both.
func TestSchema(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	a.Patch("stt-worker", `{"vad_silence_duration_ms":650}`)
	a.Admin("PUT", "/api/config/profiles/bench", `{"services":{"stt-worker":{"vad_silence_duration_ms":900}}}`).OK(t)
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/services/stt-worker/schema")
	p.Shows("9 fields", "above 0", "Keys outside the schema are refused.")
	p.Click("JSON")
	p.Shows(`"additionalProperties": false`)
	p.Click("Table")

	file := filepath.Join(t.TempDir(), "stt-worker.json")
	upload := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := chromedp.Do(p.Ctx, chromedp.SetUploadFiles(chromedp.CSS(`input[type=file]`), []string{file}, chromedp.NodeReady)); err != nil {
			t.Fatal(err)
		}
	}
	upload(`{"type": }`)
	p.Shows("line 1, column 10")
	upload(`{"type":"object","additionalProperties":false,"properties":{
		"vad_silence_duration_ms":{"type":"integer","minimum":0,"maximum":600,"default":500,"description":` + quote(markup) + `},
		"beam_size":{"type":"integer","minimum":1,"maximum":10,"default":5}}}`)
	p.Shows("would break 1", "beam_size integer, 1 to 10, default 5", "0 to 600, was 0 to 2000", "1 stored value would be invalid.")
	if why := p.Off("Store"); why == "" {
		t.Error("a schema may be stored that refuses a stored value")
	}
	p.Fill("vad_silence_duration_ms", "600")
	p.Click("Check again")
	p.Shows("takes every value", "1 profile could not be activated any more.", "bench")
	p.ForEverybody("the comparison of schemas")
	p.Fill("Why?", "shorter pauses")
	p.Click("Store as v3")
	p.Shows("Stored the schema as v3.", "2 fields", markup)
	doc := a.Document("stt-worker")
	if text(doc.Values["vad_silence_duration_ms"]) != "600" || text(doc.Values["beam_size"]) != "5" || doc.Metadata.Version != 3 {
		t.Errorf("after storing, stt-worker is v%d %v", doc.Metadata.Version, doc.Values)
	}
	if title := browser.Eval[string](p, "document.title"); !strings.HasPrefix(title, "Schema of stt-worker") {
		t.Errorf("markup ran: the title is %q", title)
	}
}
