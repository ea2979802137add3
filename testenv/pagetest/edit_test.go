package pagetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestMergeOfTwoBrowsers has two people change the same service. Keys that only one of them
// changed merge by themselves; the key of both is decided by the second one.
func TestMergeOfTwoBrowsers(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	first := a.Patch("stt-worker", `{"vad_threshold":0.6}`)
	mine, theirs := browser.Open(t), browser.Open(t)
	for _, p := range []*browser.Tab{mine, theirs} {
		p.SignIn(a.AdminAddr, testenv.WriteToken)
		p.At("/services/stt-worker?edit")
	}
	mine.Enter("i-vad_threshold", "0.7")
	mine.Enter("i-whisper_model", "medium.en")
	// The first one hears nothing: the conflict is found when it saves.
	mine.Run(`Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))`)
	mine.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	mine.Confirm()
	mine.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")

	theirs.Enter("i-vad_threshold", "0.55")
	theirs.Confirm()
	theirs.Await("the difference", "document.querySelector('dialog .new')")
	theirs.Write("short pauses were cut off")
	theirs.Confirm()
	theirs.Shows(fmt.Sprintf("Saved as v%d", first+1))

	mine.Write("better ears")
	mine.Confirm()
	mine.Shows("1 key needs your decision")
	mine.Shows("short pauses were cut off")
	mine.Shot("conflict")
	if got := browser.Eval[string](mine, `[...document.querySelectorAll('tbody tr')].map((r) => [...r.cells].slice(1, 4).map((c) => c.innerText.trim()).join(' ')).join('; ')`); got != "0.6 0.55 0.7; default default medium.en" {
		t.Errorf("base, theirs and mine are %q", got)
	}
	if off := browser.Eval[string](mine, `document.querySelector('.savebar [data-review]').title`); !strings.Contains(off, "vad_threshold") {
		t.Errorf("an open conflict can be passed by: %q", off)
	}
	mine.Run(`document.querySelector('label.theirs input').click()`)
	mine.Confirm()
	mine.Await("the rest of the difference", "document.querySelectorAll('dialog .change').length === 1 && document.querySelector('dialog .new').textContent.includes('medium.en')")
	if got := browser.Eval[string](mine, `document.getElementById('why').value`); got != "better ears" {
		t.Errorf("the reason that was typed is %q now", got)
	}
	mine.Confirm()
	mine.Shows(fmt.Sprintf("Saved as v%d", first+2))
	if got := a.Document("stt-worker"); fmt.Sprintf("%v %v", got.Values["vad_threshold"], got.Values["whisper_model"]) != "0.55 medium.en" {
		t.Errorf("the merged values are %v", got.Values)
	}
}

// TestBehindIsNoConflict has somebody else change another key while a draft is open: a bar says
// so, the draft is not touched, and saving puts it on top.
func TestBehindIsNoConflict(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/services/stt-worker?edit")
	p.Enter("i-whisper_model", "medium.en")
	version := a.Patch("stt-worker", `{"vad_threshold":0.55}`)
	p.Shows("You changed other keys, so there is no conflict")
	p.Await("their value at its field", fmt.Sprintf("document.querySelector('.chip.theirs')?.innerText.includes('v%d by')", version))
	p.Shot("behind")
	if got := browser.Eval[string](p, `document.getElementById('i-whisper_model').value`); got != "medium.en" {
		t.Errorf("the draft was touched: %q", got)
	}
	p.Confirm()
	p.Await("the difference on top of theirs", "document.querySelectorAll('dialog .change').length === 1 && document.querySelector('dialog').innerText.includes('came first')")
	p.Confirm()
	p.Shows(fmt.Sprintf("Saved as v%d", version+1))
	if got := a.Document("stt-worker"); fmt.Sprintf("%v %v", got.Values["vad_threshold"], got.Values["whisper_model"]) != "0.55 medium.en" {
		t.Errorf("the values are %v", got.Values)
	}
	// And who only looks sees what changed.
	later := a.Patch("stt-worker", `{"vad_threshold":0.45}`)
	p.Shows(fmt.Sprintf("v%d by", later))
	p.Await("the new value", "document.getElementById('f-vad_threshold').innerText.includes('0.45')")
}

// TestDraftSurvives has the session end, and the page be loaded again, while a draft is open.
func TestDraftSurvives(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/services/llm-worker?edit")
	p.Enter("i-temperature", "0.4")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	if status := browser.Eval[int](p, `fetch('/api/session', { method: 'DELETE' }).then((r) => r.status)`); status != 200 {
		t.Fatalf("ending the session: %d", status)
	}
	p.Enter("i-max_tokens", "320")
	p.Shows("Your session has ended")
	p.Shot("session-ended")
	p.Enter("again", "not-the-token-of-anybody")
	p.Press(kb.Enter)
	p.Shows("The token is wrong")
	p.Enter("again", testenv.WriteToken)
	p.Press(kb.Enter)
	p.Await("the form again", "!document.querySelector('dialog') && document.querySelector('.savebar').innerText.includes('checked')")
	if got := browser.Eval[string](p, `document.getElementById('i-temperature').value + ' ' + document.getElementById('i-max_tokens').value`); got != "0.4 320" {
		t.Errorf("the draft after signing in again: %q", got)
	}
	p.Visit("http://" + a.AdminAddr + "/#/services/llm-worker?edit")
	p.Run("window.old = true; location.reload()")
	p.Await("the draft after loading again", "window.old === undefined && document.getElementById('i-temperature')?.value === '0.4' && document.getElementById('i-max_tokens').value === '320'")

	// A secret that is set meanwhile is not part of the draft, and not of the page.
	p.Click("All")
	p.Await("the field of the secret", "document.getElementById('f-proxy_password')")
	p.Run(`document.querySelector('#f-proxy_password button').click()`)
	p.Fill("New value", "hunter2-and-more")
	p.Click("Set the secret")
	p.Await("the dialog to close", "!document.querySelector('dialog')")
	if browser.Eval[bool](p, `(document.documentElement.outerHTML + JSON.stringify(sessionStorage) + JSON.stringify(localStorage)).includes('hunter2')`) {
		t.Error("the secret stayed on the page")
	}
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")
	p.Confirm()
	// The secret made a version. Where the page had not heard of it, it is found when saving, and
	// the difference is shown once more, on top of it.
	p.Await("the end, or the difference on top of the secret's version",
		"document.body.innerText.includes('Saved as v') || document.querySelector('dialog')?.innerText.includes('came first')")
	p.Confirm()
	p.Shows("Saved as v")
	if got := a.Document("llm-worker"); fmt.Sprintf("%v %v", got.Values["temperature"], got.Values["max_tokens"]) != "0.4 320" {
		t.Errorf("the values are %v", got.Values)
	}
	if left := browser.Eval[string](p, "Object.keys(sessionStorage).join()"); left != "" {
		t.Errorf("a saved draft is still kept: %s", left)
	}
}

// TestEveryType changes a field of each type that a schema may have, and has the agent confirm it.
func TestEveryType(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	schema := `{"type":"object","additionalProperties":false,"properties":{
	 "text":{"type":"string","default":"a","maxLength":50},"whole":{"type":"integer","default":1,"minimum":0,"maximum":10},"real":{"type":"number","default":0.5},
	 "flag":{"type":"boolean","default":false},"few":{"enum":["x","y"],"default":"x"},"some":{"enum":["a","b","c","d","e","f","g"],"default":"a"},
	 "file":{"type":"string","format":"path","default":"/a"},"maybe":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null},
	 "list":{"type":"array","items":{"type":"string"},"default":[]},"nest":{"type":"object","properties":{"inner":{"type":"object","properties":{"n":{"type":"integer","default":3}}}}},
	 "map":{"type":"object","additionalProperties":{"type":"string"},"default":{}},"either":{"type":["integer","string"],"default":3},
	 "gone":{"type":"string","default":"the default"}}}`
	if err := os.WriteFile(filepath.Join(dir, "types.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+dir)
	a.Patch("types", `{"gone":"something else"}`)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/services/types?edit")
	for id, text := range map[string]string{
		"text": "ü <b>", "whole": "7", "real": ".25", "file": "/b c", "list": `["x", "y"]`, "nest.inner.n": "4", "map": `{"k": "v"}`, "either": `"word"`,
	} {
		p.Enter("i-"+id, text)
	}
	p.Run(`document.getElementById('i-flag').click()`)
	p.Run(`document.querySelectorAll('#f-few input')[1].click()`)
	p.Choose("some", "f")
	p.Run(`document.querySelectorAll('#f-maybe input')[1].click()`)
	p.Enter("i-maybe", "now")
	p.Click("Return gone to its default")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('13 changes') && document.querySelector('.savebar').innerText.includes('checked')")
	p.Shot("types")
	p.Enter("i-list", "[1,\n]")
	p.Shows("is not JSON (line 2, column 1)")
	p.Enter("i-list", `["x", "y"]`)
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 13")
	p.Confirm()
	p.Shows("Saved as v")
	var got, want any
	r := a.Admin("GET", "/api/config/services/types?values=stored", "").OK(t)
	var doc struct {
		Config json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(r.Body, &doc); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(doc.Config, &got) // an agent sends JSON
	_ = json.Unmarshal([]byte(`{"text":"ü <b>","whole":7,"real":0.25,"flag":true,"few":"y","some":"f","file":"/b c","maybe":"now","list":["x","y"],"nest":{"inner":{"n":4}},"map":{"k":"v"},"either":"word"}`), &want)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stored %v\nwant   %v", got, want)
	}
}

// TestJSONInstead edits a service with a value that its schema has no field for.
func TestJSONInstead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "open.json"), []byte(`{"type":"object","additionalProperties":true,"properties":{"a":{"type":"integer","default":1,"maximum":5}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+dir)
	version := a.Patch("open", `{"extra":{"x":1}}`)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/services/open?edit")
	p.Enter("i-json", `{"a": 9, "extra": {"x": 2}}`)
	p.Await("the error of the agent", "document.getElementById('e-json')?.innerText.includes('must be at most 5')")
	p.Enter("i-json", `{"a": 2, "extra": {"x": 2`)
	p.Shows("it ends too early")
	p.Enter("i-json", `{"a": 2, "extra": {"x": 2}}`)
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Shot("json")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")
	p.Confirm()
	p.Shows(fmt.Sprintf("Saved as v%d", version+1))
	if got := fmt.Sprint(a.Document("open").Values["extra"]); got != "map[x:2]" {
		t.Errorf("the value without a field is %s", got)
	}
}
