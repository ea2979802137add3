package pagetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// places are the addresses of the views, for a service that has something to show.
func places(service string) []string {
	s := "/services/" + service
	return []string{
		"/services", "/add", s, s + "?edit", s + "/history", s + "/instances", s + "/secrets", s + "/schema", "/search?q=port", "/profiles",
		"/rollouts", "/rollouts/" + service + "-2-0a1b2c",
		"/cog/cluster", "/cog/health", "/cog/backup", "/cog/keys", "/cog/tokens", "/cog/access", "/cog/about", "/nothing/there",
	}
}

// TestEveryViewIsClean opens every view, light and dark, wide, at a zoom of 200 % and narrow: no violation of
// the policy, no error on the console (the end of each tab asserts that), no text below 4.5 to its
// ground, nothing wider than the window, no control without a name or out of reach of the Tab key,
// nothing that a screen reader cannot tell, nothing that moves for who prefers that nothing does.
func TestEveryViewIsClean(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	a.Patch("llm-worker", `{"temperature":0.4}`)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	want := func(place, what, bad string) {
		t.Helper()
		if bad != "" {
			t.Errorf("%s: %s%s", place, what, bad)
		}
	}
	for _, place := range places("llm-worker") {
		p.Open(place)
		p.Shot("view" + strings.NewReplacer("/", "-", "?", "-", "=", "-").Replace(place))
		want(place, "text below 4.5: ", p.Contrast())
		want(place, "", p.Names())
		want(place, "", p.Unheard())
		want(place, "", p.Walk())
		want(place, "moves: ", p.Moving())
		p.Scheme("dark")
		want(place, "dark, text below 4.5: ", p.Contrast())
		p.Scheme("light")
		for _, width := range []int64{640, 320} {
			p.Size(width, 800)
			want(place, fmt.Sprintf("scrolls sideways at %d px: ", width), p.Wider())
		}
		p.Size(1280, 900)
	}
	// A view that is not in this list is not looked at: each address of the page has one here.
	left := browser.Eval[string](p, `(async () => { const { views } = await import('/ui/views/index.js'), { match } = await import('/ui/lib/router.js');
		const seen = new Set(a[0].map((place) => match(views, '#' + place).view?.path)); return views.map((v) => v.path).filter((path) => !seen.has(path)).join(', '); })()`, places("llm-worker"))
	want("the list of places", "misses ", left)

	// An error is tied to its field: who hears the field hears it.
	p.At("/services/llm-worker?edit")
	p.Enter("i-temperature", "2.4")
	p.Shows("must be at most 2")
	if !slices.ContainsFunc(p.Tree(), func(n browser.Node) bool {
		return n.Role == "textbox" && strings.HasPrefix(n.Name, "temperature") && strings.Contains(n.Description, "must be at most 2")
	}) {
		t.Errorf("the error is not told with the field: %+v", p.Tree())
	}
	p.Click("Discard")
}

// TestMarkupIsText gives a service values, keys, descriptions and members of an enum that are markup,
// very long, right to left, or both. All of it is shown, and none of it runs.
func TestMarkupIsText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	evil := `<img src=x onerror=window.ran=1><script>window.ran=1</script>`
	q := func(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }
	var members []string
	for i := range 5000 {
		members = append(members, fmt.Sprintf(`"member-%d %s"`, i, q("<b>")))
	}
	schema := fmt.Sprintf(`{"type":"object","description":"%[1]s","additionalProperties":true,"properties":{
	 "tricky_key":{"type":"string","default":"%[1]s","description":"%[1]s","x-help":"%[1]s","title":"%[1]s"},
	 "labels":{"type":"object","additionalProperties":{"type":"string"},"default":{"<b>name</b>":"%[1]s"}},"rtl":{"type":"string","default":"שלום \u202e עולם 🙂"},
	 "many":{"enum":[%[2]s],"default":"member-0 <b>"},"few":{"enum":["<i>x</i>","y"],"default":"y"}}}`, q(evil), strings.Join(members, ","))
	if err := os.WriteFile(filepath.Join(dir, "evil.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "long.json"), []byte(`{"type":"object","properties":{"long":{"type":"string","default":"short"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+dir)
	a.Admin("PATCH", "/api/config/services/evil?reason=%3Cimg%20src%3Dx%20onerror%3Dwindow.ran%3D1%3E", fmt.Sprintf(`{"rtl":"%s"}`, q(evil))).OK(t)
	a.Patch("long", fmt.Sprintf(`{"long":%q}`, strings.Repeat("a<b> ", 200_000)))
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	for _, place := range []string{"/services", "/services/evil", "/services/evil?edit", "/services/evil/history", "/services/evil/schema", "/services/evil/secrets", "/search?q=%3Cimg", "/search?q=key", "/services/long", "/services/long?edit", "/services/long/history"} {
		p.Open(place)
		if browser.Eval[bool](p, "window.ran !== undefined || document.querySelector('main img, main script, main b b, iframe') !== null") {
			t.Errorf("%s has markup of a value", place)
		}
	}
	p.At("/services/evil")
	p.Await("the markup as text", fmt.Sprintf("document.querySelector('main').innerText.includes(%q) && document.querySelector('main').innerText.includes('<b>name</b>')", evil))
	p.Shot("markup")
	p.Open("/services/long")
	if n := browser.Eval[int](p, "document.querySelector('main').innerText.length"); n < 1000 || n > 20_000 {
		t.Errorf("%d characters of a long value are shown at once", n)
	}
}

// TestKeyboardAlone does a change with nothing but keys.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Press("?")
	p.Await("the list of keys", "document.querySelector('dialog')?.innerText.includes('Edit the service')")
	p.Press(kb.Escape)
	p.Await("the list to close", "!document.querySelector('dialog')")
	p.Press("g", "c")
	p.Await("the cluster", "location.hash === '#/cog/cluster'")
	p.Press("g", "s")
	p.Await("the services", "location.hash === '#/services' && document.querySelector('tbody a.name')")
	p.Press("/")
	p.Await("the focus in the search", "document.activeElement.id === 'q'")
	p.Write("vad_threshold")
	p.Press(kb.Enter)
	p.Await("a result", "document.querySelector('a.hit')")
	p.Press("j", kb.Enter)
	p.Await("the field opened", "document.querySelector('#f-vad_threshold .more:not([hidden])') && document.activeElement.closest('#f-vad_threshold')")
	p.Press("]")
	p.Await("the next tab", "location.hash.endsWith('/history') && document.querySelector('.timeline')")
	p.Press("[")
	p.Await("the first tab", "document.querySelector('[data-edit]')")
	p.Press("f")
	p.Await("the focus in the filter", "document.activeElement.id === 'ff'")
	p.Write("pad")
	p.Await("the advanced field that was searched", "document.querySelectorAll('.fields > li').length === 1 && document.getElementById('status').textContent === '1 of 9 shown'")
	p.Press(kb.Escape)
	p.Await("the filter without focus", "document.activeElement.id !== 'ff'")
	p.Press("e")
	p.Await("the form", "document.querySelector('.savebar') && document.activeElement.closest('.fields')")
	for range 30 {
		if browser.Eval[string](p, "document.activeElement.id") == "i-vad_threshold" {
			break
		}
		p.Press(kb.Tab)
	}
	p.Run("document.activeElement.select()") // what a browser does itself for Tab by a person
	p.Write("0.42")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the reason in focus", "document.activeElement.id === 'why'")
	p.Write("by keys alone")
	p.Confirm()
	p.Shows("Saved as v")
	if _, value, reason := history(t, &a.API, "stt-worker", "vad_threshold"); value != 0.42 || reason != "by keys alone" {
		t.Errorf("saved %v %q", value, reason)
	}
}

// TestEverySample changes a value of each sample service, whose schemas have all that the seed has.
func TestEverySample(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	schemas, err := os.ReadDir(filepath.Join(testenv.Root(), "testenv", "schemas"))
	if err != nil || len(schemas) == 0 {
		t.Fatal(err)
	}
	for _, file := range schemas {
		service := strings.TrimSuffix(file.Name(), ".json")
		var schema struct {
			Fields []struct {
				Key string `json:"key"`
			} `json:"fields"`
		}
		if err := json.Unmarshal(a.Admin("GET", "/api/config/schemas/"+service, "").OK(t).Body, &schema); err != nil {
			t.Fatal(err)
		}
		before := a.Document(service).Metadata.Version
		p.Open("/services/" + service)
		p.Press("e")
		p.Await("the form of "+service, "document.querySelector('.savebar') && document.querySelector('[data-depth] input')")
		p.Click("All")
		for _, f := range schema.Fields {
			p.Await("the field "+service+" "+f.Key, fmt.Sprintf("document.getElementById(%q)", "f-"+f.Key))
		}
		p.Run(`const field = document.querySelector('.fields [role=switch]') || [...document.querySelectorAll('.fields input.num')].find((e) => Number(e.value) > 1);
		  if (field.matches('[role=switch]')) field.click(); else { field.value = Number(field.value) - 1; field.dispatchEvent(new Event('input', { bubbles: true })); }`)
		p.Await("the values of "+service+" to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
		p.Confirm()
		p.Await("the difference", "document.querySelectorAll('dialog .change').length === 1")
		p.Confirm()
		p.Shows(fmt.Sprintf("Saved as v%d", before+1))
	}
}

// TestLocked has a value come from the environment of the agent: the page says which variable decides
// and what it hides, and has no control for it.
func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	schema := `{"type":"object","properties":{"plain":{"type":"string","default":"a","x-env":"SAMPLE_PLAIN"},"key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"SAMPLE_KEY"}}}`
	if err := os.WriteFile(filepath.Join(dir, "locked.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+dir, "SAMPLE_KEY=not-for-the-page", "SAMPLE_PLAIN=not-for-the-page either")
	version := a.Patch("locked", `{"plain":"stored value"}`)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Open("/services/locked")
	p.Shows("SAMPLE_KEY")
	p.Click("plain")
	p.Await("where the plain value is from, and what that hides", "(text => text.includes('environment SAMPLE_PLAIN') && text.includes('not shown') && text.includes('stored value') && text.includes(a[0]) && text.includes('The environment wins'))(document.getElementById('f-plain').innerText)", fmt.Sprintf("stored, v%d", version))
	p.Shot("locked")
	p.Open("/services/locked?edit")
	p.Await("the plain value locked by itself", "(field => field?.querySelector('.locked') && !field.querySelector('input, textarea, select') && field.innerText.includes('Set by SAMPLE_PLAIN in this agent’s environment') && field.innerText.includes('Hides the stored value stored value (v'))(document.getElementById('f-plain'))")
	p.ForEverybody("locked fields")
	p.Shot("locked-edit")
	p.Await("the lock", "document.querySelector('#f-key .locked')?.innerText.includes('SAMPLE_KEY') && !document.querySelector('#f-key :is(input, textarea, button)')")
	if browser.Eval[bool](p, "document.documentElement.outerHTML.includes('not-for-the-page')") {
		t.Error("a value of the environment is on the page")
	}
}

// TestReader is a person whose token may only read: what is forbidden is there, and says why.
func TestReader(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.ReadToken)
	p.At("/services/stt-worker")
	p.Await("the reason", "document.querySelector('[data-edit][aria-disabled=true]')?.title.includes('config.read') && document.getElementById('role-why')")
	p.Press("e")
	p.Await("the reason to be said", "document.getElementById('status').textContent.includes('config.read') && !location.hash.includes('edit')")
	p.Shot("reader")
}
