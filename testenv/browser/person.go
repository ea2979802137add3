package browser

import (
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// SignIn opens the page at an address (host:port) and signs in with a token.
func (p *Tab) SignIn(addr, token string) {
	p.T.Helper()
	p.Visit("http://" + addr + "/")
	p.Fill("API token", token)
	p.Press(kb.Enter)
	p.Await("the list of services", "document.querySelector('h1')?.textContent === 'Services' && document.querySelector('tbody a.name')")
}

// At goes to an address of the page, such as "/services".
func (p *Tab) At(place string) {
	p.T.Helper()
	p.Run("location.hash = a[0]", "#"+place)
}

// Open goes to an address of the page, and waits until the view has drawn what it read.
func (p *Tab) Open(place string) {
	p.T.Helper()
	p.At(place)
	p.Settled(place)
}

// Settled waits until the view of an address has drawn what it read: no request is under way, and
// nothing changes any more.
func (p *Tab) Settled(place string) {
	p.T.Helper()
	p.Await("the view "+place, "location.hash === a[0] && document.querySelector('main h1') && !document.querySelector('.ghost, main [aria-busy=true]') && await quiet()", "#"+place)
}

// Shows waits until texts are on the page.
func (p *Tab) Shows(texts ...string) {
	p.T.Helper()
	for _, text := range texts {
		p.Await(fmt.Sprintf("the text %q", text), "text().includes(a[0])", text)
	}
}

// Click presses the control of a name with the mouse, once it lies still and nothing lies over
// it. With a dialog open, only what is in it counts.
func (p *Tab) Click(name string) {
	p.T.Helper()
	for pressed := false; !pressed; {
		var at []float64
		if !base.Poll(base.Patience, func() bool {
			var err error
			at, err = try[[]float64](p.Ctx, "return await pressable(a[0]);", name)
			return (err == nil && len(at) == 2) || p.Ctx.Err() != nil
		}) || p.Ctx.Err() != nil {
			p.T.Fatalf("waited %v in vain for: a control named %q that can be pressed", base.Patience, name)
		}
		if err := chromedp.Do(p.Ctx, chromedp.MouseClickXY(at[0], at[1])); err != nil {
			p.T.Fatalf("pressing %s: %v", name, err)
		}
		// What the view drew in between may have taken the control from below the mouse.
		hit, err := try[bool](p.Ctx, "return window.pressed !== false;")
		pressed = hit || err != nil
	}
}

// Fill types into the control of a name, in place of what is there.
func (p *Tab) Fill(name, text string) {
	p.T.Helper()
	p.into("the control "+name, "named(a[0])", name, text)
}

// Enter types into the control of an id, in place of what is there.
func (p *Tab) Enter(id, text string) {
	p.T.Helper()
	p.into("the control "+id, "document.getElementById(a[0])", id, text)
}

func (p *Tab) into(what, find, which, text string) {
	p.T.Helper()
	p.Await(what, find, which)
	p.Run("const n = "+find+"; n.scrollIntoView({ block: 'center', behavior: 'instant' }); n.focus(); n.select?.()", which)
	if text == "" {
		p.Press(kb.Backspace)
	} else {
		p.Write(text)
	}
	p.Await("the text in "+what, "("+find+")?.value === a[1] || !("+find+")", which, text)
}

// Choose takes an option of the select of a name.
func (p *Tab) Choose(name, option string) {
	p.T.Helper()
	p.Await("a choice "+option+" in "+name, "named(a[0]) && [...named(a[0]).options].some((o) => o.text === a[1])", name, option)
	p.Run(`const n = named(a[0]); n.value = [...n.options].find((o) => o.text === a[1]).value;
		n.dispatchEvent(new Event('input', { bubbles: true })); n.dispatchEvent(new Event('change', { bubbles: true }))`, name, option)
}

// Write types a text where the focus is.
func (p *Tab) Write(text string) {
	p.T.Helper()
	p.call(chromedp.Call(p.Ctx, input.InsertText, input.InsertTextParams{Text: text}))
}

// Press types keys one by one, such as "g", "s" or kb.Enter.
func (p *Tab) Press(keys ...string) {
	p.T.Helper()
	for _, k := range keys {
		if len(k) > 1 || k < " " {
			if err := chromedp.Do(p.Ctx, chromedp.KeyEvent(k)); err != nil {
				p.T.Fatal(err)
			}
			continue
		}
		// One event for the key and its character, as of a keyboard: a page that takes the key
		// for itself does not get the character as well.
		p.call(chromedp.Call(p.Ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: k, Text: k, UnmodifiedText: k}))
		p.call(chromedp.Call(p.Ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: k}))
	}
}

// Confirm presses Ctrl+Enter.
func (p *Tab) Confirm() {
	p.T.Helper()
	if err := chromedp.Do(p.Ctx, chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierCtrl))); err != nil {
		p.T.Fatal(err)
	}
}

// Off is why the control of a name may not be used now; empty when it may.
func (p *Tab) Off(name string) string {
	p.T.Helper()
	p.Await("the control "+name, "named(a[0])", name)
	return Eval[string](p, "named(a[0]).getAttribute('aria-disabled') === 'true' ? named(a[0]).title || 'without a reason' : ''", name)
}

// AwaitOff waits until the control of a name is disabled with a reason that has a text.
func (p *Tab) AwaitOff(name, reason string) {
	p.T.Helper()
	p.Await(fmt.Sprintf("%s to be off: %s", name, reason), "named(a[0])?.getAttribute('aria-disabled') === 'true' && named(a[0]).title.includes(a[1])", name, reason)
}

// Everywhere says where in the page a text is: in its markup, in a control, in the storage or in the address.
func (p *Tab) Everywhere(text string) []string {
	p.T.Helper()
	at := Eval[string](p, `[document.documentElement.outerHTML.includes(a[0]) && 'the markup',
		[...document.querySelectorAll('input, textarea')].some((n) => n.value.includes(a[0])) && 'a control',
		[localStorage, sessionStorage].some((s) => JSON.stringify({ ...s }).includes(a[0])) && 'the storage', location.href.includes(a[0]) && 'the address'].filter(Boolean).join('\n')`, text)
	if at == "" {
		return nil
	}
	return strings.Split(at, "\n")
}
