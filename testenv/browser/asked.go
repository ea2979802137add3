package browser

import (
	"net/url"
	"slices"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Record begins to keep the addresses that the tab asks: documents, scripts, styles, images, data, streams
// and sockets. The tab has no content security policy from then on, so that what it would refuse is seen, too.
func (p *Tab) Record() {
	p.T.Helper()
	if err := chromedp.Listen(p.Ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			p.asked = append(p.asked, e.Request.URL)
		case *network.EventWebSocketCreated:
			p.asked = append(p.asked, e.URL)
		case *network.EventWebTransportCreated:
			p.asked = append(p.asked, e.URL)
		}
	}); err != nil {
		p.T.Fatal(err)
	}
	p.call(chromedp.Call(p.Ctx, network.Enable, network.EnableParams{}))
	p.call(chromedp.Call(p.Ctx, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}))
}

// Asked takes the addresses that were asked since Record or since the last call, each once. What a browser
// answers itself, such as data:, is none of them.
func (p *Tab) Asked() (out []*url.URL) {
	p.T.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.asked)
	for _, address := range slices.Compact(p.asked) {
		u, err := url.Parse(address)
		if err != nil {
			p.T.Errorf("the page asked %q: %v", address, err)
		} else if u.Scheme != "data" && u.Scheme != "blob" && u.Scheme != "about" {
			out = append(out, u)
		}
	}
	p.asked = nil
	return out
}
