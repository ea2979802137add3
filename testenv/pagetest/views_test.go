package pagetest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestHistory compares two versions, restores one key, and then a whole version.
func TestHistory(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	v2 := a.Patch("stt-worker", `{"vad_threshold":0.6,"whisper_model":"small.en"}`)
	v3 := a.Patch("stt-worker", `{"vad_threshold":0.7,"whisper_model":"medium.en"}`)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/services/stt-worker/history")
	p.Await("the two newest versions compared", "document.querySelectorAll('.change.acts').length === 2 && document.querySelectorAll('.timeline .on').length === 2")
	p.Shot("history")
	p.Click(fmt.Sprintf("Restore vad_threshold of v%d only", v2))
	p.Await("one key to restore", "document.querySelectorAll('dialog .change').length === 1")
	p.Write("only this one")
	p.Confirm()
	p.Shows(fmt.Sprintf("Restored as v%d", v3+1))
	if got := a.Document("stt-worker").Values; fmt.Sprintf("%v %v", got["vad_threshold"], got["whisper_model"]) != "0.6 medium.en" {
		t.Errorf("after restoring one key: %v", got)
	}
	p.At(fmt.Sprintf("/services/stt-worker/history?from=%d&to=%d", v2-1, v3+1))
	p.Click(fmt.Sprintf("Restore v%d as v%d", v2-1, v3+2))
	p.Await("the whole version", "document.querySelectorAll('dialog .change').length === 2")
	p.Write("as it was")
	p.Confirm()
	p.Shows(fmt.Sprintf("Restored as v%d", v3+2))
	if _, value, reason := history(t, &a.API, "stt-worker", "vad_threshold"); fmt.Sprint(value) != "0.5" || reason != "as it was" {
		t.Errorf("after restoring a version: %v %q", value, reason)
	}
}

// TestOutage has two of three servers die: the page says why changes are off, keeps the draft, and
// comes back by itself when they do.
func TestOutage(t *testing.T) {
	t.Parallel()
	c := testenv.StartCluster(t, 3, 0)
	n := c.Nodes[0]
	version := n.Patch("stt-worker", `{"vad_threshold":0.6}`)
	p := browser.Open(t)
	p.SignIn(n.AdminAddr, testenv.WriteToken)
	p.At("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.7")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	for _, other := range c.Nodes[1:] {
		other.Kill()
	}
	p.Await("the banner", "document.querySelector('.banner')?.innerText.includes('1 of 3 voters answers, 2 are needed')")
	p.Await("the reason at the button", "document.querySelector('.savebar [data-review][aria-disabled=true]')?.title === 'Changes are off: no leader is known'")
	p.Shot("outage")
	p.Enter("i-whisper_model", "medium.en")
	for _, other := range c.Nodes[1:] {
		other.Restart()
	}
	p.Await("the banner to go", "!document.querySelector('.banner') && document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")
	p.Confirm()
	p.Shows(fmt.Sprintf("Saved as v%d", version+1))
	if got := n.Document("stt-worker").Values; fmt.Sprintf("%v %v", got["vad_threshold"], got["whisper_model"]) != "0.7 medium.en" {
		t.Errorf("saved after the outage: %v", got)
	}
}

// TestManyServices is about what stays fluent: it reports how long a list of 1,000 services takes
// until it is seen and until it is filtered, and holds how many rows are drawn.
func TestManyServices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 1000 {
		schema := `{"type":"object","properties":{"n":{"type":"integer","default":1}}}`
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("service-%04d.json", i)), []byte(schema), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+dir)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Run("window.old = true; location.reload()")
	p.Await("the list of the page that was loaded again", "window.old === undefined && performance.getEntriesByName('first-contentful-paint').length === 1 && document.querySelectorAll('tbody a.name').length > 10 && document.querySelector('h1').parentElement.innerText.includes('1,000')")
	t.Logf("first content after %.0f ms", browser.Eval[float64](p, "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"))
	if rows := browser.Eval[int](p, "document.querySelectorAll('tbody a.name').length"); rows > 100 {
		t.Errorf("%d rows are drawn", rows)
	}
	took := browser.Eval[float64](p, `new Promise((done) => { const f = document.getElementById('fs'), t = performance.now(); f.value = '0777'; f.dispatchEvent(new Event('input', { bubbles: true }));
	  const look = () => document.querySelectorAll('tbody a.name').length === 1 ? done(performance.now() - t) : requestAnimationFrame(look); look(); })`)
	t.Logf("filtered after %.0f ms", took)
	p.Enter("fs", "")
	p.Await("all again", "document.querySelectorAll('tbody a.name').length > 10")
	p.Run("scrollTo(0, document.documentElement.scrollHeight)")
	p.Await("the last row", "document.querySelectorAll('tbody a.name').length > 5 && [...document.querySelectorAll('tbody a.name')].at(-1).getBoundingClientRect().bottom <= innerHeight + 60")
	p.Shot("many")
}
