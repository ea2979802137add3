// The keyboard map. Single keys rest while a field has the focus or a dialog is open.
import { html } from '../lib/html.js';
import { Dialog } from './basic.js';

const map = [
  [['/'], 'Search keys, values, descriptions'], [['?'], 'This list'], [['g', 's'], 'Go to services'], [['g', 'p'], 'Go to profiles'], [['g', 'r'], 'Go to rollouts'],
  [['g', 'c'], 'Go to cluster and settings'], [['[', ']'], 'Previous, next tab'], [['j', 'k'], 'Next, previous row'], [['Enter'], 'Open the row'],
  [['e'], 'Edit the service'], [['f'], 'Filter this list'], [['a'], 'Simple or all fields'], [['Ctrl', 'Enter'], 'Review changes, save'],
  [['Esc'], 'Close, leave the field, leave editing'],
];

/** KeysDialog lists the shortcuts. */
export function KeysDialog({ onClose }) {
  return html`<${Dialog} slim title="Keyboard" onClose=${onClose}><div class="pad"><dl class="facts">
    ${map.map(([keys, text]) => html`<dt>${keys.map((k, i) => html`${i > 0 && ' '}<kbd>${k}</kbd>`)}</dt><dd>${text}</dd>`)}</dl></div></${Dialog}>`;
}

const places = { s: '#/services', p: '#/profiles', r: '#/rollouts', c: '#/cog/cluster' };

/** singleKeys tells whether this person left the single keys on (the switch is in About). */
export function singleKeys(on) {
  try {
    if (on !== undefined) localStorage.setItem('holdfast.keys', on ? 'on' : 'off');
    return localStorage.getItem('holdfast.keys') !== 'off';
  } catch {
    return true;
  }
}

/**
 * handleKeys listens to the whole page. Views take part through markup: [data-edit], [data-filter],
 * [data-depth], [data-review], [data-leave], .tabs, and rows that are button.key, tbody a.name or a.hit.
 */
export function handleKeys({ go, openKeys, closeMenu }) {
  let before = '';
  const $ = (selector) => document.querySelector(selector);
  const $$ = (selector) => [...document.querySelectorAll(selector)];
  const step = (list, by, from) => list[Math.max(0, Math.min(list.length - 1, list.indexOf(from) + by))];
  const actions = {
    '/': () => $('#q')?.focus(),
    '?': openKeys,
    f: () => $('main [data-filter]')?.focus(),
    e: () => $('main [data-edit]')?.click(),
    a: () => $('main [data-depth] input:not(:checked)')?.click(),
    j: () => step(rows(), 1, document.activeElement)?.focus(),
    k: () => step(rows(), -1, document.activeElement)?.focus(),
    '[': () => step($$('.tabs a'), -1, $('.tabs [aria-current]'))?.click(),
    ']': () => step($$('.tabs a'), 1, $('.tabs [aria-current]'))?.click(),
  };
  const rows = () => $$('main :is(button.key, tbody a.name, a.hit)').filter((row) => row.offsetParent);

  function escape(event) {
    closeMenu();
    const open = $('details.drop[open]');
    if (open) {
      open.open = false;
      open.querySelector('summary').focus();
      return;
    }
    if ($('dialog[open]')) return; // it closes itself
    if (event.target.matches('input, textarea, select')) {
      event.target.blur();
      return;
    }
    $('[data-leave]')?.click();
  }

  function keydown(event) {
    if (event.key === 'Escape') return escape(event);
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      const target = $('dialog[open] [data-review]') || (!$('dialog[open]') && $('[data-review]'));
      if (target) {
        event.preventDefault();
        target.click();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.('input:not([type=radio], [type=checkbox]), textarea, select') || $('dialog[open]') || !singleKeys()) return;
    const at = event.key;
    if (before === 'g' && places[at] && (at !== 'r' || $('.side a[href="#/rollouts"]'))) {
      go(places[at]);
      before = '';
      return;
    }
    before = at;
    if (!actions[at]) return;
    event.preventDefault();
    actions[at]();
  }

  function click(event) {
    for (const open of $$('details.drop[open]')) {
      if (!open.contains(event.target) || event.target.closest('.list a, .list button')) open.open = false;
    }
  }
  document.addEventListener('keydown', keydown);
  document.addEventListener('click', click);
  return () => {
    document.removeEventListener('keydown', keydown);
    document.removeEventListener('click', click);
  };
}
