package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/testenv/browser"
)

// chromium is a browser of its own for one test. Every name below .test leads to
// where the test wants it, as with an attacker's own DNS server.
func chromium(t *testing.T, names string) context.Context {
	t.Helper()
	return browser.Alone(t, chromedp.Flag("host-resolver-rules", names))
}

// script runs an async function in the page and gives what it returns.
func script(t *testing.T, ctx context.Context, js string) map[string]any {
	t.Helper()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[map[string]any]("(async () => {"+js+"})()", chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("in the page: %v", err)
	}
	return out
}

func open(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
}

// bypass lets scripts of this test run in a page whose own policy lets none run.
func bypass(t *testing.T, ctx context.Context, on bool) {
	t.Helper()
	if _, err := chromedp.Call(ctx, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: on}); err != nil {
		t.Fatal(err)
	}
}

// tries is all that a page can do to another address without its leave. Of each
// it tells whether the page got to see anything: "seen: ..." or why not.
const tries = `
const out = {};
const left = (name, p) => Promise.race([p, new Promise(r => setTimeout(() => r('nothing came'), 3000))]).then(v => out[name] = String(v), e => out[name] = 'error ' + e);
const see = async r => r.type === 'opaque' || r.type === 'opaqueredirect' ? 'opaque' : r.ok ? 'seen: ' + (await r.text()).slice(0, 300) : 'status ' + r.status;
const load = (el, url) => new Promise(r => { el.onload = () => r('seen: ' + url); el.onerror = () => r('refused'); el.src = url; document.body.appendChild(el); });
for (const [name, url] of Object.entries(urls)) {
  await left(name + ' fetch', fetch(url).then(see));
  await left(name + ' fetch with cookies', fetch(url, {credentials: 'include'}).then(see));
  await left(name + ' fetch without cors', fetch(url, {mode: 'no-cors', credentials: 'include'}).then(see));
  await left(name + ' fetch with a token', fetch(url, {headers: {'X-API-Token': 'a guess', 'X-Holdfast-Token': 'a guess'}}).then(see));
  await left(name + ' patch', fetch(url, {method: 'PATCH', credentials: 'include', headers: {'Content-Type': 'application/json'}, body: '{"vad_threshold":0.99}'}).then(see));
  await left(name + ' post as text', fetch(url + '/restore', {method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"version":1}'}).then(see));
  await left(name + ' post of no type', fetch(url + '/restore', {method: 'POST', mode: 'no-cors', credentials: 'include', body: new Blob(['{"version":1}'])}).then(see));
  await left(name + ' delete', fetch(url, {method: 'DELETE', credentials: 'include'}).then(see));
  await left(name + ' image', load(document.createElement('img'), url));
  await left(name + ' script', load(document.createElement('script'), url));
  await left(name + ' event source', new Promise(r => { const e = new EventSource(url, {withCredentials: true}); e.onopen = () => r('seen: stream'); e.onerror = () => { e.close(); r('refused'); }; }));
  await left(name + ' web socket', new Promise(r => { const w = new WebSocket(url.replace('http', 'ws')); w.onopen = () => r('seen: socket'); w.onerror = () => r('refused'); }));
  await left(name + ' beacon', Promise.resolve(navigator.sendBeacon(url + '/restore', '{"version":1}')).then(() => 'opaque'));
  await left(name + ' form', new Promise(r => {
    const f = document.createElement('form'), i = document.createElement('iframe');
    i.name = 'into-' + name; document.body.appendChild(i);
    f.method = 'POST'; f.enctype = 'text/plain'; f.action = url + '/restore'; f.target = i.name;
    const x = document.createElement('input'); x.name = '{"version":1,"a":"'; x.value = '"}'; f.appendChild(x); document.body.appendChild(f);
    i.onload = () => { try { r(i.contentDocument && i.contentDocument.body.innerText.includes('success":true') ? 'seen: form' : 'opaque'); } catch (e) { r('refused'); } };
    f.submit();
  }));
  await left(name + ' frame', new Promise(r => {
    const i = document.createElement('iframe'); document.body.appendChild(i);
    i.onload = () => { try { r(i.contentDocument.body.innerText.includes('vad_threshold') ? 'seen: frame' : 'refused'); } catch (e) { r('refused'); } };
    i.src = url;
  }));
}
return out;`

// refusedAll checks what the page saw: nothing of the agent's. Its own text may
// come once more over a connection that was open before.
func refusedAll(t *testing.T, where string, out map[string]any) {
	t.Helper()
	if len(out) < 30 {
		t.Errorf("%s: only %d things were tried", where, len(out))
	}
	for name, v := range out {
		if s := fmt.Sprint(v); strings.HasPrefix(s, "seen") && !strings.Contains(s, "free wallpapers") {
			t.Errorf("%s: %s: %s", where, name, s)
		}
	}
}

// attacker serves one page, and can turn into a wire to another address: for the
// browser it is one host and port, as when a name is bound to another address.
type attacker struct {
	l      net.Listener
	target atomic.Pointer[string]
}

// newAttacker listens on the port of the victim, at another address of this host.
func newAttacker(t *testing.T, victim string) *attacker {
	t.Helper()
	_, port, _ := net.SplitHostPort(victim)
	l, err := net.Listen("tcp", "127.0.0.66:"+port)
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{l: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(c)
		}
	}()
	return a
}

func (a *attacker) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // the attacker does not care
	to := a.target.Load()
	if to == nil {
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
		const page = "<!DOCTYPE html><html><body>free wallpapers</body></html>"
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(page), page)
		return
	}
	up, err := net.Dial("tcp", *to)
	if err != nil {
		return
	}
	defer up.Close() //nolint:errcheck // nor here
	go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
	_, _ = io.Copy(c, up)
}

// TestBrowser lets a real browser attack the agent beside it: pages of other
// origins, of the same host at another port, and of a name that is bound to the
// agent's address once the page is there. They see nothing and change nothing. A
// page of the agent's own origin works by its cookie.
func TestBrowser(t *testing.T) {
	ctx := chromium(t, "MAP *.test 127.0.0.66")
	a := StartProcess(t)
	version := a.Patch("stt-worker", `{"vad_threshold":0.6}`)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>free wallpapers</body></html>")
	}))
	t.Cleanup(evil.Close)
	_, evilPort, _ := net.SplitHostPort(evil.Listener.Addr().String())
	admin, local := "http://"+a.AdminAddr, "http://"+a.LocalAddr
	urls := fmt.Sprintf(`const urls = {admin: %q, local: %q};`, admin+"/api/config/services/stt-worker", local+"/v1/config/stt-worker")
	untouched := func(after string) {
		t.Helper()
		if d := a.Document("stt-worker"); d.Metadata.Version != version {
			t.Errorf("after %s the service is at version %d, it was at %d", after, d.Metadata.Version, version)
		}
	}

	// The user is logged in, in this very browser.
	open(t, ctx, admin+"/api/config/health")
	if out := script(t, ctx, `try { await fetch('/api/config/me'); return {got: 'through'} } catch (e) { return {got: 'blocked'} }`); out["got"] != "blocked" {
		t.Errorf("a script in an answer of the API: %v, the policy should have stopped it", out)
	}
	bypass(t, ctx, true)
	open(t, ctx, admin+"/api/config/health")
	login := script(t, ctx, `
const r = await fetch('/api/session', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"token":"`+WriteToken+`"}'});
return {status: r.status, cookie: document.cookie, me: await (await fetch('/api/config/me')).text(),
  patch: (await fetch('/api/config/services/stt-worker', {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: '{"vad_threshold":0.7}'})).status};`)
	if login["status"] != 200.0 || login["cookie"] != "" || !strings.Contains(fmt.Sprint(login["me"]), "config.write") || login["patch"] != 200.0 {
		t.Fatalf("logged in: %v", login)
	}
	version = a.Document("stt-worker").Metadata.Version
	bypass(t, ctx, false)

	// Another site, and another port of the same host, which is the same site: that
	// one is sent the cookie.
	open(t, ctx, "http://127.0.0.1:"+evilPort+"/")
	refusedAll(t, "another port", script(t, ctx, urls+tries))
	untouched("another port")
	elsewhere := newAttacker(t, evil.Listener.Addr().String())
	open(t, ctx, "http://evil.test:"+evilPort+"/")
	refusedAll(t, "another site", script(t, ctx, urls+tries))
	untouched("another site")
	_ = elsewhere.l.Close()

	// DNS rebinding: the page came from evil.test, and now that name is the agent.
	for name, victim := range map[string]string{"local": a.LocalAddr, "admin": a.AdminAddr} {
		rebound := newAttacker(t, victim)
		_, port, _ := net.SplitHostPort(victim)
		open(t, ctx, "http://evil.test:"+port+"/")
		rebound.target.Store(&victim)
		own := fmt.Sprintf(`const urls = {admin: 'http://evil.test:%s/api/config/services/stt-worker', local: 'http://evil.test:%s/v1/config/stt-worker'};`, port, port)
		refusedAll(t, "a rebound name at the "+name+" port", script(t, ctx, own+tries))
		untouched("DNS rebinding")
		// The wire is there: the same connection with the right Host is answered.
		_, hostPort, _ := net.SplitHostPort(victim)
		if r := Do("GET", "http://"+rebound.l.Addr().String()+map[string]string{"local": "/healthz", "admin": "/api/config/health"}[name], "", "Host: 127.0.0.1:"+hostPort); r.Status != 200 {
			t.Errorf("the attacker does not reach the agent at all: %v", r)
		}
	}

	// The session is still good for the page that it belongs to.
	bypass(t, ctx, true)
	open(t, ctx, admin+"/api/config/health")
	out := script(t, ctx, `const me = (await fetch('/api/config/me')).status; await fetch('/api/session', {method: 'DELETE'}); return {me: me, out: (await fetch('/api/config/me')).status};`)
	if out["me"] != 200.0 || (out["out"] != 401.0 && out["out"] != 429.0) {
		t.Errorf("the own page, before and after the logout: %v", out)
	}
}
