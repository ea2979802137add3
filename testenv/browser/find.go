package browser

// flying counts the requests of a page that are under way, from before its first script.
const flying = `(() => { const ask = window.fetch; window.flying = 0;
window.fetch = async (...args) => { window.flying++; try { const r = await ask(...args); await r.clone().text(); return r; } finally { window.flying--; } }; })()`

// find is what every script of a test has: controls as a person finds them, by their names, in the
// dialog that is open.
const find = `
const scope = () => [...document.querySelectorAll('dialog[open]')].at(-1) ?? document;
const words = (n) => { let out = '', last = null; const w = document.createTreeWalker(n, NodeFilter.SHOW_TEXT);
  while (w.nextNode()) { const t = w.currentNode, at = t.parentElement; if (at.closest('kbd')) continue; out += (at === last ? '' : ' ') + t.data; last = at; }
  return out.replace(/\s+/g, ' ').trim(); };
const nameOf = (n) => n.getAttribute('aria-label') || (n.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)).filter(Boolean).map(words).join(' ')
  || [...(n.labels ?? [])].map(words).join(' ') || words(n) || n.title;
const seen = (n) => n.checkVisibility({ checkVisibilityCSS: true }) && n.getClientRects().length > 0;
const controls = () => [...scope().querySelectorAll('a[href], button, input:not([hidden]), select, textarea, summary, [role=switch]')].filter(seen);
const named = (name) => { const all = controls(); return all.find((n) => nameOf(n) === name) ?? all.find((n) => nameOf(n).startsWith(name)); };
const text = () => document.body.innerText;
const frame = () => new Promise((r) => requestAnimationFrame(r));
const quiet = async () => { let last = null;
  for (let still = 0; still < 6; still++) { const now = location.hash + text(); if (window.flying > 0) return false; if (now !== last) still = 0; last = now; await frame(); }
  return true; };
const pressable = async (name) => { const n = named(name); if (!n || (scope() === document && document.querySelector('main [aria-busy=true]'))) return [];
  n.scrollIntoView({ block: 'center', behavior: 'instant' });
  await frame(); const was = n.getBoundingClientRect(); await frame(); await frame(); const r = n.getBoundingClientRect();
  const x = r.x + r.width / 2, y = r.y + r.height / 2, over = document.elementFromPoint(x, y);
  if (was.x !== r.x || was.y !== r.y || !over || !(n.contains(over) || over.contains(n) || [...(n.labels ?? [])].some((l) => l.contains(over)))) return [];
  window.pressed = false; n.addEventListener('click', () => { window.pressed = true; }, { once: true, capture: true });
  return [x, y]; };
`
