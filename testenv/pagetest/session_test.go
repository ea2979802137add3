package pagetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestSessions signs in at two agents of one host with one browser, which sends the cookies of both
// to both, and looks at what a session is good for, and until when.
func TestSessions(t *testing.T) {
	t.Parallel()
	a, b := testenv.StartProcess(t), testenv.StartProcess(t)
	at := browser.Open(t)
	at.SignIn(a.AdminAddr, testenv.WriteToken)
	beside := at.Beside()
	beside.SignIn(b.AdminAddr, testenv.WriteToken)

	// A stolen cookie is good at its own port only, under whatever name.
	cookies, err := chromedp.Call(at.Ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{"http://" + a.AdminAddr + "/"}})
	if err != nil || len(cookies.Cookies) != 2 {
		t.Fatalf("the cookies of the browser: %+v (%v)", cookies, err)
	}
	own, other := "holdfast_session_"+port(a.AdminAddr), "holdfast_session_"+port(b.AdminAddr)
	value := ""
	for _, c := range cookies.Cookies {
		if !c.HTTPOnly || c.SameSite != network.CookieSameSiteStrict {
			t.Errorf("the cookie %s: HttpOnly %v, SameSite %s", c.Name, c.HTTPOnly, c.SameSite)
		}
		if c.Name == own {
			value = c.Value
		}
	}
	me := func(addr, name string) int {
		return testenv.Do("GET", "http://"+addr+"/api/config/me", "", "Cookie: "+name+"="+value).Status
	}
	if status := me(a.AdminAddr, own); status != http.StatusOK {
		t.Errorf("the cookie at its own port: %d", status)
	}
	for _, name := range []string{own, other} {
		if status := me(b.AdminAddr, name); status != http.StatusUnauthorized {
			t.Errorf("a stolen cookie as %s at another port: %d", name, status)
		}
	}

	// Who signs out at one agent stays signed in at the other.
	beside.Run("document.querySelector('.top details').open = true")
	beside.Click("Sign out")
	beside.Await("the way in", "document.getElementById('token')")
	for _, width := range []int64{1280, 320} {
		beside.Size(width, 800)
		beside.ForEverybody(fmt.Sprintf("the way in at %d px", width))
	}
	at.Visit("http://" + a.AdminAddr + "/#/cog/about")
	at.Shows("config.write", "valid on every server")

	// The page is shown in no frame of another page, and takes no post of one.
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, fmt.Sprintf(`<!DOCTYPE html><h1>free wallpapers</h1><iframe src="http://%[1]s/"></iframe><iframe name="into"></iframe>
			<form method="post" enctype="text/plain" target="into" action="http://%[1]s/api/config/tokens"><input name='{"name":"evil","role":"config.write","x":"' value='"}'></form>`, a.AdminAddr))
	}))
	t.Cleanup(evil.Close)
	bad := at.Beside()
	bad.Visit(evil.URL)
	bad.Run("document.forms[0].submit(); await new Promise((r) => { document.querySelector('[name=into]').onload = r; })")
	tree, err := chromedp.Call(bad.Ctx, page.GetFrameTree, struct{}{})
	if err != nil || len(tree.FrameTree.ChildFrames) != 2 {
		t.Fatalf("the frames: %+v (%v)", tree, err)
	}
	if f := tree.FrameTree.ChildFrames[0].Frame; !strings.HasPrefix(f.URL, "chrome-error:") {
		t.Errorf("the page is shown in a frame: %s", f.URL)
	}
	if said := strings.Join(bad.Problems(), " "); !strings.Contains(said, "frame-ancestors") {
		t.Errorf("the policy did not refuse the frame: %s", said)
	}
	if r := a.Admin("GET", "/api/config/tokens", "").OK(t); strings.Contains(string(r.Body), "evil") {
		t.Errorf("another page made a token: %s", r)
	}

	// The end of a token is the end of its sessions; the page says so in place.
	var made struct{ ID, Token string }
	a.Admin("POST", "/api/config/tokens", `{"name":"bo","role":"config.write"}`).Into(t, &made)
	bo := browser.Open(t)
	bo.SignIn(a.AdminAddr, made.Token)
	bo.Open("/services/stt-worker")
	a.Admin("DELETE", "/api/config/tokens/"+made.ID, "").OK(t)
	bo.At("/cog/tokens")
	bo.Shows("Your session has ended", "You were signed in as bo")
	bo.Click("Leave this page")
	bo.Await("the way in", "document.getElementById('token')")

	// Guessing is slowed down, and the page says what to do.
	for i := 0; ; i++ {
		testenv.Await(t, "another program to be slowed down", func() bool {
			return testenv.Do("POST", "http://"+a.AdminAddr+"/api/session", `{"token":"a guess"}`).Status == http.StatusTooManyRequests
		})
		bo.Enter("token", fmt.Sprintf("guess-%d", i))
		bo.Press(kb.Enter)
		bo.Await("an answer to the guess", "document.getElementById('token-e') && document.querySelector('button[type=submit]').getAttribute('aria-disabled') !== 'true'")
		if browser.Eval[bool](bo, "!document.getElementById('token-e').innerText.includes('is wrong')") {
			break // a slow machine may have earned the page another guess
		}
	}
	bo.Await("what to do", "document.getElementById('token-e').innerText.includes('too many')")
	bo.Shot("slowed")
	withoutStream(t, b)
}

// withoutStream takes all places for streams of events of an agent: its page works without one.
func withoutStream(t *testing.T, a *testenv.Agent) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	testenv.Await(t, "all streams to be taken", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.AdminAddr+"/api/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Token", testenv.ReadToken)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res.StatusCode == http.StatusTooManyRequests
	})
	p := browser.Open(t)
	p.SignIn(a.AdminAddr, testenv.WriteToken)
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.7")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog .change')")
	p.Confirm()
	p.Shows("Saved as v")
	if got := fmt.Sprint(a.Document("stt-worker").Values["vad_threshold"]); got != "0.7" {
		t.Errorf("saved without a stream: %s", got)
	}
}

func port(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }
