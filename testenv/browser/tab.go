package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// Tab is one page, with cookies and storage of its own.
type Tab struct {
	T   testing.TB
	Ctx context.Context // for what chromedp has and this package has not

	mu       sync.Mutex
	problems []string // what the console and the policy said
	asked    []string // the addresses since Record
}

// Open opens a tab. At the end of the test its console has to be clean.
func Open(t testing.TB) *Tab { return OpenIn(t, shared(t), chromedp.WithNewBrowserContext()) }

// Beside opens another tab with the same cookies, as a person does.
func (p *Tab) Beside() *Tab { return OpenIn(p.T, p.Ctx) }

// OpenIn opens a tab in a browser that runs.
func OpenIn(t testing.TB, in context.Context, how ...chromedp.ContextOption) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(in, how...)
	t.Cleanup(cancel)
	p := &Tab{T: t}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	p.Ctx, cancel = context.WithTimeout(ctx, 5*base.Patience)
	t.Cleanup(cancel)
	if err := chromedp.Listen(p.Ctx, p.heard); err != nil {
		t.Fatal(err)
	}
	p.call(chromedp.Call(p.Ctx, log.Enable, struct{}{}))
	// A window that another one covers is in front for its person all the same.
	p.call(chromedp.Call(p.Ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	p.call(chromedp.Call(p.Ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: flying}))
	p.Size(1280, 900)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the page at its end:\n%s", p.text())
		}
		p.Clean()
	})
	return p
}

// call fails the test for an error of a call whose result nobody needs.
func (p *Tab) call(_ any, err error) {
	p.T.Helper()
	if err != nil {
		p.T.Fatal(err)
	}
}

// heard keeps what the page complains about. A request that was refused is no complaint of the page.
func (p *Tab) heard(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		p.problems = append(p.problems, "exception: "+text)
	case *runtime.EventConsoleAPICalled:
		var args []string
		for _, a := range e.Args {
			args = append(args, string(a.Value)+a.Description)
		}
		p.problems = append(p.problems, fmt.Sprintf("console.%s: %s", e.Type, strings.Join(args, " ")))
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

// Problems takes what the page complained about so far.
func (p *Tab) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.problems
	p.problems = nil
	return out
}

// Clean fails the test for anything that the page complained about so far.
func (p *Tab) Clean() {
	p.T.Helper()
	for _, problem := range p.Problems() {
		p.T.Errorf("the page complains: %s", problem)
	}
}

// Size makes the window of a width and a height.
func (p *Tab) Size(width, height int64) {
	p.T.Helper()
	if err := chromedp.Do(p.Ctx, chromedp.EmulateViewport(width, height)); err != nil {
		p.T.Fatal(err)
	}
}

// Prefer sets what the system of the person prefers, as pairs such as "prefers-color-scheme", "dark".
func (p *Tab) Prefer(pairs ...string) {
	p.T.Helper()
	var features []*emulation.MediaFeature
	for i := 0; i+1 < len(pairs); i += 2 {
		features = append(features, &emulation.MediaFeature{Name: pairs[i], Value: pairs[i+1]})
	}
	p.call(chromedp.Call(p.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}))
}

// Scheme makes the system prefer "light" or "dark".
func (p *Tab) Scheme(name string) {
	p.T.Helper()
	p.Prefer("prefers-color-scheme", name)
}

// Visit loads an address.
func (p *Tab) Visit(url string) {
	p.T.Helper()
	if err := chromedp.Do(p.Ctx, chromedp.Navigate(url)); err != nil {
		p.T.Fatalf("opening %s: %v", url, err)
	}
}

// Eval gives the value of an expression of the page, awaited if it is a promise. The arguments
// are in the array a, and what find.go has is there by name.
func Eval[T any](p *Tab, expression string, args ...any) T {
	p.T.Helper()
	v, err := try[T](p.Ctx, "return ("+expression+");", args...)
	if err != nil {
		p.T.Fatalf("in the page, %s: %v", expression, err)
	}
	return v
}

// Run runs statements in the page; they may await.
func (p *Tab) Run(statements string, args ...any) {
	p.T.Helper()
	if _, err := try[bool](p.Ctx, statements+"; return true;", args...); err != nil {
		p.T.Fatalf("in the page, %s: %v", statements, err)
	}
}

func try[T any](ctx context.Context, body string, args ...any) (v T, err error) {
	given, err := json.Marshal(args)
	if err != nil {
		return v, err
	}
	return chromedp.Run(ctx, chromedp.Evaluate[T]("(async (a) => {"+find+body+"})("+string(given)+" ?? [])", chromedp.EvalAwaitPromise))
}

// Await waits until an expression of the page is true.
func (p *Tab) Await(what, expression string, args ...any) {
	p.T.Helper()
	// The page looks itself for half a second, so that a busy machine is not asked all the time. A
	// page that is loaded meanwhile is asked once more.
	look := `for (const until = performance.now() + 500; ;) { let said = ''; try { if (await (` + expression + `)) return ''; } catch (e) { said = String(e) }
		if (performance.now() > until) return said || 'it is not so'; await new Promise((r) => setTimeout(r, 20)); }`
	last := ""
	if !base.Poll(base.Patience, func() bool {
		said, err := try[string](p.Ctx, look, args...)
		if err != nil {
			last = err.Error()
			return p.Ctx.Err() != nil
		}
		last = said
		return said == ""
	}) || p.Ctx.Err() != nil {
		p.T.Fatalf("waited %v in vain for: %s; the page says: %s", base.Patience, what, last)
	}
}

// text is what the page shows, or why that cannot be told.
func (p *Tab) text() string {
	text, err := try[string](p.Ctx, "return document.body.innerText;")
	if err != nil {
		return err.Error()
	}
	return text
}

// Picture is the window as it is, as PNG.
func (p *Tab) Picture() []byte {
	p.T.Helper()
	p.Run("await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r))); await document.fonts.ready")
	png, err := chromedp.Run(p.Ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.T.Fatal(err)
	}
	return png
}

// Shot writes a picture into the directory of PAGE_SHOTS, if there is one.
func (p *Tab) Shot(name string) {
	p.T.Helper()
	dir := os.Getenv("PAGE_SHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), p.Picture(), 0o600); err != nil {
		p.T.Fatal(err)
	}
}
