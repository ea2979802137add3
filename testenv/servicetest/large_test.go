package servicetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// largeSchemas writes schemas that are larger than most: 500 fields, an enum of 5,000 members,
// a string of a MiB, texts from right to left.
func largeSchemas(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var fields, members []string
	for i := range 500 {
		kind := []string{`"type":"integer","minimum":0,"maximum":1000,"default":%[1]d`, `"type":"string","default":"value %[1]d"`, `"type":"boolean","default":false`, `"enum":["a","b","c"],"default":"a"`, `"type":"number","default":0.5`}[i%5]
		fields = append(fields, fmt.Sprintf(`"field_%03[1]d":{`+kind+`,"description":"What field %[1]d is for, in some words"}`, i))
	}
	for i := range 5000 {
		members = append(members, fmt.Sprintf(`"member-%04d"`, i))
	}
	for name, schema := range map[string]string{
		"wide":   `{"type":"object","properties":{` + strings.Join(fields, ",") + `}}`,
		"enum":   `{"type":"object","properties":{"one":{"enum":[` + strings.Join(members, ",") + `],"default":"member-0000"}}}`,
		"long":   `{"type":"object","properties":{"text":{"type":"string","default":"short"},"list":{"type":"array","items":{"type":"string"},"default":[]},"other":{"type":"integer","default":1}}}`,
		"hebrew": `{"type":"object","description":"\u202eתצורה","properties":{"greeting":{"type":"string","default":"שלום, world 🙂","description":"ברכה שמוצגת בתחילת השיחה"},"volume":{"type":"integer","default":5,"description":"\u202eevil"}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(schema), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// takes reports how long the page takes from an action until a condition is true and drawn. It is
// not asserted: a busy machine takes longer.
func (p person) takes(what, action, until string) {
	p.T.Helper()
	p.Run("window.took = 0; const t = performance.now(); (async () => { " + action + "; while (!(" + until + ")) await frame(); await frame(); window.took = performance.now() - t; })()")
	p.Await(what, "window.took > 0")
	ms := browser.Eval[float64](p.Tab, "window.took")
	p.T.Logf("%s: %.0f ms", what, ms)
}

// typed puts a text into a control as a key does, without the time of typing.
func typed(id, text string) string {
	return fmt.Sprintf(`const f = document.getElementById(%q); f.value = %s; f.dispatchEvent(new Event('input', { bubbles: true }))`, id, text)
}

const checked = "document.querySelector('.savebar').innerText.includes('checked')"

// TestLargeServices has a person work with what is larger than usual, and reports how long each step
// takes (go test -v).
func TestLargeServices(t *testing.T) {
	t.Parallel()
	a := &testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+largeSchemas(t)).API
	a.Patch("long", fmt.Sprintf(`{"text":%q}`, strings.Repeat("lorem ipsum ", 86_000)))
	p := person{browser.Open(t), a}
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.reload()
	p.Await("the list", "document.querySelectorAll('tbody a.name').length === 4 && performance.getEntriesByName('first-contentful-paint').length === 1")
	t.Logf("the page: first paint after %.0f ms", browser.Eval[float64](p.Tab, "performance.getEntriesByName('first-contentful-paint')[0].startTime"))
	for _, part := range []struct {
		name string
		test func(*testing.T, person)
	}{
		{"500 fields", wide}, {"5,000 members", members}, {"a MiB", mebibyte}, {"right to left", rightToLeft}, {"at 200 percent", zoomed},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			p.T = t
			part.test(t, p)
		}) {
			break
		}
	}
	p.T = t
}

func wide(t *testing.T, p person) {
	p.takes("500 fields: first content", "location.hash = '#/services/wide'", "document.querySelectorAll('.fields > li').length === 500")
	p.takes("500 fields: filter", typed("ff", "'_077'"), "document.querySelectorAll('.fields > li').length === 1")
	p.takes("500 fields: form", "location.hash = '#/services/wide?edit'", "document.querySelector('.savebar') && document.querySelectorAll('.fields > li').length === 500")
	p.takes("500 fields: a key stroke", typed("i-field_491", "'mine'"), "document.querySelector('.savebar').innerText.includes('1 change')")
	p.takes("500 fields: the answer of the agent", "", checked)
	p.Run("document.getElementById('i-field_491').focus()")
	p.Await("the field in sight, with its label", "(r => r.top > 0 && r.bottom < innerHeight)(document.getElementById('f-field_491').getBoundingClientRect())")
	p.takes("500 fields: difference", "document.querySelector('.savebar [data-review]').click()", "document.querySelectorAll('dialog .change').length === 1")
	p.Confirm()
	p.Shows("Saved as v2")
	if got := stored(t, p.agent, "wide"); fmt.Sprint(got) != "map[field_491:mine]" {
		t.Errorf("stored: %v", got)
	}
}

func members(t *testing.T, p person) {
	p.takes("5,000 members: form", "location.hash = '#/services/enum?edit'", "document.getElementById('i-one')")
	p.takes("5,000 members: focus", "document.getElementById('i-one').focus()", "document.querySelectorAll('datalist option').length === 100")
	p.takes("5,000 members: a key stroke", typed("i-one", "'ber-49'"), "document.querySelector('datalist option')?.value === 'member-4900'")
	p.Enter("i-one", "member-9999")
	p.Await("that there is none", "document.getElementById('e-one')")
	p.Enter("i-one", "member-4321")
	p.Await("the answer of the agent", checked)
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .new')?.innerText.includes('member-4321')")
	p.Confirm()
	p.Shows("Saved as v2")
	if got := stored(t, p.agent, "enum"); fmt.Sprint(got["one"]) != "member-4321" {
		t.Errorf("stored: %v", got)
	}
	p.takes("5,000 members: schema", "location.hash = '#/services/enum/schema'", "document.querySelector('main table')?.innerText.includes('and 4988 more')")
}

func mebibyte(t *testing.T, p person) {
	p.takes("a MiB: first content", "location.hash = '#/services/long'", "document.getElementById('f-text')?.innerText.includes('show all 1,032,000 characters')")
	p.takes("a MiB: form", "location.hash = '#/services/long?edit'", "document.getElementById('i-text')?.value.length === 1032000")
	p.takes("a MiB: a key stroke in it", typed("i-text", "f.value.slice(0, 600000) + '!' + f.value.slice(600000)"), "document.querySelector('.savebar').innerText.includes('1 change')")
	p.takes("a MiB: a key stroke beside it", typed("i-other", "'2'"), "document.querySelector('.savebar').innerText.includes('2 changes')")
	p.takes("a MiB: the answer of the agent", "", checked)
	p.takes("a MiB: difference", "document.querySelector('.savebar [data-review]').click()", "document.querySelectorAll('dialog .change').length === 2")
	p.Shows("characters around it are the same")
	p.Await("what differs", "document.querySelector('dialog').innerText.length < 3000 && [...document.querySelectorAll('dialog ins')].some((n) => n.innerText === '!')")
	p.Confirm()
	p.Shows("Saved as v3")
	if got := stored(t, p.agent, "long"); len(fmt.Sprint(got["text"])) != 1_032_001 {
		t.Errorf("stored: %d characters", len(fmt.Sprint(got["text"])))
	}
	p.takes("a MiB: history", "location.hash = '#/services/long/history'", "document.querySelector('main')?.innerText.includes('characters around it are the same')")
	if n := browser.Eval[int](p.Tab, "document.querySelector('main').innerText.length"); n > 20_000 {
		t.Errorf("the history shows %d characters at once", n)
	}
}

// rightToLeft holds that texts from right to left are shown whole, and turn nothing else around.
func rightToLeft(t *testing.T, p person) {
	p.agent.Admin("PATCH", "/api/config/services/hebrew?reason=%E2%80%AEbecause", `{"greeting":"ערב טוב"}`).OK(t)
	p.Open("/services/hebrew")
	p.Shows("ערב טוב", "ברכה שמוצגת")
	p.Await("the words of the page from left to right, beside a text that turns what follows", `(() => {
		const w = document.createTreeWalker(document.querySelector('.head p'), NodeFilter.SHOW_TEXT); let n;
		while ((n = w.nextNode()) && !n.data.includes('Changed')) ;
		const at = (i) => { const r = document.createRange(); r.setStart(n, i); r.setEnd(n, i + 1); return r.getBoundingClientRect().left; };
		const from = n.data.indexOf('Changed');
		return at(from) < at(from + 6); })()`)
	p.Shot("rtl")
	p.Open("/services/hebrew?edit")
	p.Enter("i-greeting", "בוקר טוב")
	p.Await("the answer of the agent", checked)
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .new')?.innerText.includes('בוקר טוב')")
	p.Confirm()
	p.Shows("Saved as v3")
	if got := stored(t, p.agent, "hebrew"); got["greeting"] != "בוקר טוב" {
		t.Errorf("stored: %v", got)
	}
}

// zoomed holds that all is there at 200 percent in a window of 1280 by 900.
func zoomed(t *testing.T, p person) {
	p.agent.Admin("PUT", "/api/config/profiles/night?service=hebrew", "").OK(t)
	p.Size(640, 450)
	for _, place := range []string{
		"/services", "/add", "/services/wide", "/services/wide?edit", "/services/long?edit", "/services/hebrew/history", "/services/hebrew/secrets", "/services/enum/schema",
		"/profiles", "/search?q=field_07", "/cog/cluster", "/cog/health", "/cog/backup", "/cog/keys", "/cog/tokens", "/cog/access", "/cog/about",
	} {
		p.Open(place)
		p.ForEverybody(place + " at 200 percent")
	}
	p.Open("/services/wide?edit")
	p.Enter("i-field_001", "near")
	p.Await("the control between what sticks above and below it", "(r => r.top >= document.querySelector('.top').getBoundingClientRect().bottom && r.bottom <= document.querySelector('.savebar').getBoundingClientRect().top)(document.getElementById('i-field_001').getBoundingClientRect())")
	p.Shot("zoomed")
}
