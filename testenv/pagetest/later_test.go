package pagetest

import (
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// block keeps the tab from loading what fits a pattern; an empty one lets it load all.
func block(p *browser.Tab, pattern string) {
	p.T.Helper()
	var patterns []*network.BlockPattern
	if pattern != "" {
		patterns = []*network.BlockPattern{{URLPattern: pattern, Block: true}}
	}
	if _, err := chromedp.Call(p.Ctx, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: patterns}); err != nil {
		p.T.Fatal(err)
	}
}

// TestPartsOfThePage has a view that is fetched when it is opened not arrive: the page says so in its place,
// and gets it at the next try. All views are there once the page is open, also when the agent is gone.
func TestPartsOfThePage(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t)
	p := browser.Open(t)
	if _, err := chromedp.Call(p.Ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	block(p, "*://*:*/ui/views/keys.*.js")
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.At("/cog/keys")
	p.Shows("This view could not be loaded.", "load the page again")
	p.ForEverybody("a view that did not arrive")
	p.Shot("part-missing")
	block(p, "")
	p.Click("Try again")
	p.Shows("Four keys, each rotated while the cluster runs.")
	p.Await("the focus in the view", "document.activeElement.id === 'main'")

	p.Await("the views that nobody has opened", "performance.getEntriesByType('resource').some((e) => e.name.includes('/ui/views/about.'))")
	a.Stop()
	p.Shows("This agent does not answer.")
	p.At("/cog/about")
	p.Await("the view", "document.querySelector('.tabs [aria-current]')?.innerText === 'About'")
}
