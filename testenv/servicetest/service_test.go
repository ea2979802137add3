package servicetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// person is somebody at the page of an agent.
type person struct {
	*browser.Tab
	agent *testenv.API
}

// TestServices is the life of services on the page, from the first to the last one.
func TestServices(t *testing.T) {
	t.Parallel()
	a := &testenv.StartProcess(t).API
	p := person{browser.Open(t), a}
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	for _, part := range []struct {
		name string
		test func(*testing.T, person)
	}{
		{"add by a schema", addBySchema}, {"add by values", addByValues}, {"edit a schema", editSchema}, {"edit as JSON with a secret", editJSON}, {"export", export}, {"delete and restore", deleteAndRestore},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			p.T = t
			part.test(t, p)
		}) {
			break
		}
	}
	p.T = t
	p.Open("/cog/cluster")
	p.Shows("Observers", "this agent does not know how many there are", "--role observer")
	p.ForEverybody("the cluster")
}

// file puts a file into the control that chooses one.
func (p person) file(name, text string) {
	p.T.Helper()
	path := filepath.Join(p.T.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.T.Fatal(err)
	}
	if err := chromedp.Do(p.Ctx, chromedp.SetUploadFiles("main input[type=file]", []string{path})); err != nil {
		p.T.Fatal(err)
	}
}

// reload loads the page again, and comes back with the new one.
func (p person) reload() {
	p.T.Helper()
	p.Run("window.old = true; location.reload()")
	p.Await("the page to be loaded again", "window.old === undefined && document.querySelector('h1')")
}

// fault is what a control says to be wrong, to those who hear the page, too.
const fault = `(document.getElementById(a[0]).getAttribute('aria-invalid') === 'true' ? document.getElementById(a[0]).getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).innerText).join(' ') : '')`

// addBySchema has somebody add a service by a file: what the agent refuses is said at the field, and
// name and schema are stored together.
func addBySchema(t *testing.T, p person) {
	p.Click("Add a service")
	p.Settled("/add")
	p.ForEverybody("adding a service")
	p.Size(320, 800)
	p.ForEverybody("adding a service on a telephone")
	p.Size(1280, 900)
	p.file("beep-worker.schema.json", `{"type":"object","properties":{"volume":{"type":"integer","minimum":0,"maximum":10,"default":11}}}`)
	p.Await("the name of the file", "document.getElementById('an').value === 'beep-worker'")
	p.Await("what the agent says, at the field", fault+".includes('default must be at most 10')", "as")
	p.Shot("add-refused")
	p.Fill("Name of the service", "Beep Worker")
	p.Await("what is wrong with the name", fault+".includes('Lower-case letters')", "an")
	p.Fill("Name of the service", "stt-worker")
	p.Await("that there is one", fault+".includes('of this name already') && named('Open stt-worker')", "an")
	p.Enter("as", `{"type":"object",
	"properties":`)
	p.Await("the place of the error", fault+".includes('(line 2, column 15): it ends too early')", "as")
	p.Confirm()
	p.Await("the focus at the first error", "document.activeElement.id === 'an'")

	p.reload()
	p.Await("what was typed", "document.getElementById('as')?.value.startsWith('{\"type\":\"object\",') && document.getElementById('an').value === 'stt-worker'")
	p.Fill("Name of the service", "beep-worker")
	p.Enter("as", `{"type":"object","properties":{"volume":{"type":"integer","minimum":0,"maximum":10,"default":5},"tone":{"enum":["low","high"],"default":"low"}}}`)
	p.Fill("Why?", "it beeps")
	p.Shows("2 fields: volume, tone", "checked")
	p.Shot("add")
	p.Confirm()
	p.Await("the service", "location.hash === '#/services/beep-worker' && document.getElementById('f-tone')")
	if got := p.agent.Document("beep-worker"); got.Metadata.Version != 1 || fmt.Sprint(got.Values["volume"]) != "5" {
		t.Errorf("the service is v%d %v", got.Metadata.Version, got.Values)
	}
	if left := browser.Eval[string](p.Tab, "Object.keys(sessionStorage).join()"); left != "" {
		t.Errorf("what was typed is still kept: %s", left)
	}
}

// addByValues has somebody add a service without a schema: one is made of the values, and what is a
// credential by its name becomes a secret, which the page does not keep.
func addByValues(t *testing.T, p person) {
	p.At("/add")
	p.Fill("Name of the service", "mailer")
	p.Click("Values only")
	p.Enter("as", `{"host": "mail.example", "port": 25, "smtp": {"password": "hunter2-hunter2"}}`)
	p.Shows("Sealed as secrets: smtp.password", "checked")
	if at := browser.Eval[string](p.Tab, "JSON.stringify({...sessionStorage}) + JSON.stringify({...localStorage})"); strings.Contains(at, "hunter2") {
		t.Error("the password is in the storage of the browser")
	}
	p.Shot("add-values")
	p.Click("Add as v1")
	p.Await("the service", "location.hash === '#/services/mailer' && document.getElementById('f-port')")
	if at := p.Everywhere("hunter2"); at != nil {
		t.Errorf("the password is in %v", at)
	}
	got := p.agent.Document("mailer")
	if fmt.Sprintf("%v %v", got.Values["host"], got.Values["port"]) != "mail.example 25" {
		t.Errorf("the values are %v", got.Values)
	}
	var schema struct {
		Fields []struct {
			Key      string          `json:"key"`
			IsSecret bool            `json:"is_secret"`
			Default  json.RawMessage `json:"default"`
		} `json:"fields"`
	}
	r := p.agent.Admin("GET", "/api/config/schemas/mailer", "").OK(t)
	if err := json.Unmarshal(r.Body, &schema); err != nil {
		t.Fatal(err)
	}
	for _, f := range schema.Fields {
		if secret := f.Key == "smtp.password"; f.IsSecret != secret || (len(f.Default) > 0) == secret {
			t.Errorf("the field %s: secret %v, default %s", f.Key, f.IsSecret, f.Default)
		}
	}
	if strings.Contains(string(r.Body), "hunter2") {
		t.Error("the password is in the schema")
	}
	r = p.agent.Admin("POST", "/api/config/services/mailer/secrets/smtp.password/reveal", `{"reason":"a test"}`).OK(t)
	if !strings.Contains(string(r.Body), "hunter2-hunter2") {
		t.Errorf("the secret is %s", r)
	}
}

// editSchema has somebody edit the schema of a service where it is shown: what the new one would refuse
// is said while it is typed, and schema and values are stored together.
func editSchema(t *testing.T, p person) {
	version := p.agent.Patch("beep-worker", `{"volume":8}`)
	p.Open("/services/beep-worker/schema")
	p.Press("e")
	p.Await("the text of the schema", "document.getElementById('sj')?.value.includes('\"maximum\": 10') && document.activeElement.id === 'sj'")
	p.ForEverybody("editing a schema")
	p.Enter("sj", `{"type":"object","properties":{"volume":{"type":"loud"}}}`)
	p.Await("what the agent says of the schema, at the text", fault+".includes('type: must be one of')", "sj")
	p.AwaitOff("Store", "Correct the schema first")
	p.Enter("sj", `{"type":"object",}`)
	p.Await("the place of the error", fault+".includes('line 1, column 18')", "sj")
	p.Enter("sj", `{"type":"object","properties":{"volume":{"type":"integer","minimum":0,"maximum":6,"default":5},"tone":{"enum":["low","high"],"default":"low"},"pause_ms":{"type":"integer","default":20}}}`)
	p.Shows("would break 1", "pause_ms integer, default 20", "0 to 6, was 0 to 10", "1 stored value would be invalid.")
	p.Shot("schema-edit")
	p.Size(320, 800)
	p.ForEverybody("editing a schema on a telephone")
	p.Size(1280, 900)
	p.AwaitOff("Store", "Correct the values")

	// Nothing is lost by looking elsewhere.
	p.Open("/services")
	p.Open("/services/beep-worker/schema")
	p.Shows("would break 1")
	p.Fill("volume", "6")
	p.Click("Check again")
	p.Shows("takes every value")
	p.Fill("Why?", "too loud")
	p.Confirm()
	p.Shows(fmt.Sprintf("Stored the schema as v%d.", version+1), "3 fields")
	if got := p.agent.Document("beep-worker"); got.Metadata.Version != version+1 || fmt.Sprintf("%v %v", got.Values["volume"], got.Values["pause_ms"]) != "6 20" {
		t.Errorf("after storing: v%d %v", got.Metadata.Version, got.Values)
	}
	if got := reason(t, p.agent, "beep-worker"); got != "too loud" {
		t.Errorf("the reason is %q", got)
	}
	if left := browser.Eval[string](p.Tab, "Object.keys(sessionStorage).join()"); left != "" {
		t.Errorf("what was typed is still kept: %s", left)
	}
	p.Press("e")
	p.Await("the text again", "document.getElementById('sj')")
	p.Enter("sj", "{")
	p.Click("Discard")
	p.Await("the table", "document.querySelector('main table') && Object.keys(sessionStorage).length === 0")
}

// editJSON has somebody type a secret into the text of a service that no form can draw: the tab keeps
// the rest of the draft, and the secret nowhere.
func editJSON(t *testing.T, p person) {
	p.agent.Admin("PUT", "/api/config/services/odd", `{"service":"odd","version":0,"config":{"extra":{"x":1}},"schema":{"type":"object","additionalProperties":true,
		"properties":{"a":{"type":"integer","default":1},"pw":{"type":"string","x-secret":true}}}}`).OK(t)
	p.Open("/services/odd?edit")
	p.Enter("i-json", `{"a": 2, "pw": "hunter4-hunter4", "extra": {"x": 3}}`)
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	storage := func() string {
		return browser.Eval[string](p.Tab, "JSON.stringify({ ...sessionStorage }) + JSON.stringify({ ...localStorage })")
	}
	if at := storage(); strings.Contains(at, "hunter4") || !strings.Contains(at, "extra") {
		t.Errorf("the storage has %s", at)
	}
	p.Shows("This tab keeps no secrets")
	p.Enter("i-json", `{"a": 2, "pw": "hunter4-hunter4", "extra": {"x": 3}`)
	p.Shows("it ends too early", "This tab keeps the last text that was JSON")
	if at := storage(); strings.Contains(at, "hunter4") || !strings.Contains(at, "extra") {
		t.Errorf("with a text that is no JSON, the storage has %s", at)
	}
	p.reload()
	p.Await("the draft without the secret", "(text => text?.includes('\"x\": 3') && !text.includes('pw'))(document.getElementById('i-json')?.value)")
	p.Shows("One that is left out stays as it is stored")
	p.Enter("i-json", `{"a": 2, "pw": "hunter5-hunter5", "extra": {"x": 3}}`)
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference, without the secret", "document.querySelectorAll('dialog .change').length > 0 && !document.querySelector('dialog').innerText.includes('hunter5')")
	p.Confirm()
	p.Shows("Saved as v2")
	if got := stored(t, p.agent, "odd"); fmt.Sprintf("%v %v", got["a"], got["extra"]) != "2 map[x:3]" {
		t.Errorf("saved: %v", got)
	}
	if r := p.agent.Admin("POST", "/api/config/services/odd/secrets/pw/reveal", `{"reason":"a test"}`).OK(t); !strings.Contains(string(r.Body), "hunter5-hunter5") {
		t.Errorf("the secret is %s", r)
	}
	if at := p.Everywhere("hunter5"); at != nil {
		t.Errorf("the secret is still in %v", at)
	}
}

// export has somebody put the values of a service into a file.
func export(t *testing.T, p person) {
	dir := t.TempDir()
	if _, err := chromedp.CallBrowser(p.Ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: chromedp.FromContext(p.Ctx).BrowserContextID, DownloadPath: dir,
	}); err != nil {
		t.Fatal(err)
	}
	version := p.agent.Patch("mailer", `{"port":587}`)
	read := func(name string) (doc map[string]any) {
		testenv.Await(t, "the file "+name, func() bool {
			data, err := os.ReadFile(filepath.Join(dir, name))
			return err == nil && json.Unmarshal(data, &doc) == nil
		})
		return doc
	}
	p.Open("/services/mailer/schema")
	p.Shows(fmt.Sprintf("v%d", version))
	name := fmt.Sprintf("mailer-v%d.json", version)
	p.Click("More")
	p.Click("Export as JSON")
	p.ForEverybody("exporting")
	p.Shot("export")
	p.Click("Export " + name)
	if got := fmt.Sprint(read(name)); got != "map[host:mail.example port:587]" && got != "map[host:mail.example port:587 smtp:map[]]" {
		t.Errorf("the file of effective values has %s", got)
	}
	name = fmt.Sprintf("mailer-v%d-stored.json", version)
	p.Open("/services/mailer")
	p.Click("More")
	p.Click("Export as JSON")
	p.Click("Stored values only")
	p.Click("Export " + name)
	if got := fmt.Sprint(read(name)); !strings.HasPrefix(got, "map[port:587") {
		t.Errorf("the file of stored values has %s", got)
	}
}

// deleteAndRestore has somebody delete a service by its typed name, and bring it back.
func deleteAndRestore(t *testing.T, p person) {
	version := p.agent.Document("mailer").Metadata.Version
	p.agent.Admin("PUT", "/api/config/profiles/night?service=mailer", "").OK(t)
	p.Open("/services/mailer")
	p.Click("More")
	p.Click("Delete the service")
	p.Shows("1 stored secret. No restore brings it back", "1 profile has values of it (night)", "1 stored value can be restored")
	p.ForEverybody("deleting")
	p.AwaitOff("Delete mailer", "Type mailer first")
	p.Write("mail")
	p.Press(kb.Enter)
	p.AwaitOff("Delete mailer", "Type mailer first")
	p.Write("er")
	p.Shot("delete")
	p.Fill("Why?", "nobody reads mail")
	p.Confirm()
	p.Shows(fmt.Sprintf("Deleted mailer, as v%d.", version+1))
	p.Await("the list without it", "location.hash === '#/services' && document.querySelector('tbody a.name') && ![...document.querySelectorAll('tbody a.name')].some((n) => n.innerText === 'mailer')")
	if got := stored(t, p.agent, "mailer"); got != nil {
		t.Errorf("it still has %v", got)
	}
	if got := reason(t, p.agent, "mailer"); got != "nobody reads mail" {
		t.Errorf("the reason is %q", got)
	}
	p.Click("Restore")
	p.Shows("There is no service mailer", "Secrets are not restored")
	p.Shot("deleted")
	p.Fill("Why?", "somebody does")
	p.Click(fmt.Sprintf("Restore v%d as v%d", version, version+2))
	p.Await("the service", "document.getElementById('f-port')?.innerText.includes('587')")
	if got := stored(t, p.agent, "mailer"); fmt.Sprint(got["port"]) != "587" {
		t.Errorf("restored: %v", got)
	}
}
