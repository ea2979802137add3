package browser

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Node is what a screen reader gets of an element.
type Node struct {
	Role, Name, Description string
}

// Tree is the page as a screen reader gets it.
func (p *Tab) Tree() (out []Node) {
	p.T.Helper()
	tree, err := chromedp.Call(p.Ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		p.T.Fatal(err)
	}
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal([]byte(v.Value), &s) // what is no text has none
		}
		return s
	}
	for _, n := range tree.Nodes {
		if !n.Ignored {
			out = append(out, Node{text(n.Role), text(n.Name), text(n.Description)})
		}
	}
	return out
}

// named are the roles that say nothing without a name.
var named = []string{
	"button", "link", "textbox", "searchbox", "spinbutton", "combobox", "listbox", "checkbox", "switch", "radio", "radiogroup", "heading", "table", "navigation",
	"dialog", "alertdialog", "region", "DisclosureTriangle",
}

// Unheard says what a screen reader could not tell of the page, "" if it could tell all.
func (p *Tab) Unheard() string {
	p.T.Helper()
	var bad []string
	count := map[string]int{}
	for _, n := range p.Tree() {
		count[n.Role]++
		if slices.Contains(named, n.Role) && strings.TrimSpace(n.Name) == "" {
			bad = append(bad, "a "+n.Role+" without a name")
		}
	}
	for _, role := range []string{"main", "banner", "status"} {
		if count[role] != 1 {
			bad = append(bad, fmt.Sprintf("%d of the role %s", count[role], role))
		}
	}
	return strings.Join(bad, "; ")
}

// Walk goes through the page by Tab alone, and says which controls are not reached, and which do not
// show that they have the focus; "" if all is well.
func (p *Tab) Walk() string {
	p.T.Helper()
	count := Eval[int](p, walk+".length")
	for range count + 8 { // from wherever the focus is, and around the end
		p.Press(kb.Tab)
	}
	return Eval[string](p, `(() => { document.removeEventListener('focusin', window.walker); const left = `+walk+`.filter((n) => !window.walked.has(n)).map((n) => 'not reached: ' + nameOf(n));
		delete window.walker; return [...left, ...new Set(window.unseen)].slice(0, 5).join('; '); })()`)
}

const walk = `(() => {
  const groups = new Set();
  const all = controls().filter((n) => { if (n.tabIndex < 0 || n.disabled) return false; if (n.type !== 'radio') return true;
    const same = [...document.querySelectorAll('input[type=radio]')].filter((r) => r.name === n.name); if (same.some((r) => r.checked)) return n.checked;
    if (groups.has(n.name)) return false; groups.add(n.name); return true; });
  if (window.walker) return all;
  window.walked = new Set(); window.unseen = [];
  window.walker = ({ target: n }) => { window.walked.add(n);
    const shown = [n, n.parentElement, ...(n.labels ?? [])].some((e) => { const s = getComputedStyle(e); return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none'; });
    if (!shown) window.unseen.push('no focus to be seen: ' + nameOf(n)); };
  document.addEventListener('focusin', window.walker);
  return all; })()`

// Moving says what moves although the person prefers that nothing does, "" if nothing does.
func (p *Tab) Moving() string {
	p.T.Helper()
	p.Prefer("prefers-reduced-motion", "reduce")
	defer p.Prefer()
	return Eval[string](p, `[...document.querySelectorAll('*')].flatMap((e) => ['', '::before', '::after'].map((part) => [e, getComputedStyle(e, part)]))
		.filter(([, s]) => s.transitionDuration.split(',').some((d) => parseFloat(d) > 0) && s.transitionProperty !== 'none' || s.animationName !== 'none' || s.scrollBehavior === 'smooth').slice(0, 3).map(([e]) => e.outerHTML.slice(0, 100)).join('; ')`)
}
