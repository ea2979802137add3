package browser

// Contrast gives the texts that have a ratio to their ground below 4.5, "" if there are none. Grounds
// that are partly transparent are put on what is below them.
func (p *Tab) Contrast() string {
	p.T.Helper()
	return Eval[string](p, contrast)
}

const contrast = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const rgba = (c) => { if (known.has(c)) return known.get(c); canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data;
    const out = [d[0], d[1], d[2], d[3] / 255]; known.set(c, out); return out; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = (e) => { const layers = []; for (let n = e; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3] > 0) { layers.push(c); if (c[3] === 1) break; } } return layers.reduceRight((below, c) => over(c, below), [255, 255, 255, 1]); };
  const lum = (c) => [0, 1, 2].map((i) => c[i] / 255).map((v) => (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const bad = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walker.nextNode());) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) || e.closest('.sr, .skip, option')) continue;
    texts++;
    const g = ground(e), c = over(rgba(getComputedStyle(e).color), g);
    const [hi, lo] = [lum(c), lum(g)].sort((x, y) => y - x);
    const ratio = (hi + .05) / (lo + .05);
    if (ratio < 4.5) bad.push(n.data.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  if (texts < 4) bad.push('only ' + texts + ' texts were looked at');
  return bad.slice(0, 5).join('; ');
})()`

// Names gives what people who do not see the page would miss: controls without a name, ids that are
// there twice, references to no element, more than one first heading; "" if all is well.
func (p *Tab) Names() string {
	p.T.Helper()
	return Eval[string](p, names)
}

const names = `(() => {
  const bad = controls().filter((n) => nameOf(n) === '').map((n) => 'no name: ' + n.outerHTML.slice(0, 120));
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of new Set(ids.filter((x, i) => ids.indexOf(x) !== i))) bad.push('id twice: ' + id);
  for (const e of document.querySelectorAll('[aria-describedby], [aria-labelledby], [aria-controls], label[for]')) {
    for (const id of [e.getAttribute('aria-describedby'), e.getAttribute('aria-labelledby'), e.getAttribute('aria-controls'), e.htmlFor].filter(Boolean).join(' ').split(' '))
      if (!document.getElementById(id)) bad.push('names no element: ' + id);
  }
  if (document.querySelectorAll('h1').length !== 1) bad.push(document.querySelectorAll('h1').length + ' first headings');
  if (document.querySelector('[style]')) bad.push('inline style');
  return bad.slice(0, 5).join('; ');
})()`

// Wider says what makes the window scroll sideways, "" if nothing does.
func (p *Tab) Wider() string {
	p.T.Helper()
	return Eval[string](p, `document.documentElement.scrollWidth <= innerWidth ? '' : document.documentElement.scrollWidth + ' px: '
		+ [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(' | ')`)
}

// ForEverybody fails the test for what Names, Wider and Contrast find in the page as it is.
func (p *Tab) ForEverybody(what string) {
	p.T.Helper()
	for _, found := range []struct{ name, bad string }{{"", p.Names()}, {"wider than the window, ", p.Wider()}, {"text below 4.5: ", p.Contrast()}} {
		if found.bad != "" {
			p.T.Errorf("%s: %s%s", what, found.name, found.bad)
		}
	}
}
