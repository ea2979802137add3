// The small parts. Classes and rules are those of page.css.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { ago, exact } from '../lib/format.js';
import { useApp, useShared } from './context.js';

/** Icon is a symbol of the sprite, hidden from screen readers: a word stands beside it. */
export function Icon({ name }) {
  return html`<svg class="i" aria-hidden="true"><use href=${`${document.documentElement.dataset.icons}#i-${name}`} /></svg>`;
}

/**
 * Button: kind is "primary", "quiet", "danger", "tiny", "only" or several of them. `off` is the
 * reason why it may not be used now: it stays focusable, and says the reason. With `href` it is a link.
 */
export function Button({ kind = '', icon, label, off, href, onClick, children, kbd, ...rest }) {
  const { say } = useApp();
  const props = { ...rest, class: `btn ${kind} ${rest.class || ''}`.trim() };
  const click = (event) => {
    if (off) {
      event.preventDefault();
      say(off);
      return;
    }
    onClick?.(event);
  };
  const inner = html`${icon && html`<${Icon} name=${icon} />`}${children}${label && html`<span class="sr">${label}</span>`}${kbd && html` <kbd class="opt">${kbd}</kbd>`}`;
  if (href && !off) return html`<a ...${props} href=${href} onClick=${click}>${inner}</a>`;
  if (off) {
    props['aria-disabled'] = 'true';
    props.title = off;
  }
  return html`<button type="button" ...${props} onClick=${click}>${inner}</button>`;
}

const noteIcons = { ok: 'ok', info: 'info', theirs: 'merge', warn: 'warn', bad: 'bad' };

/** Note stands where the question was. tone: ok, info, theirs, warn, bad. `acts` is a row of buttons. */
export function Note({ tone, icon, children, acts, onClose, banner, ...rest }) {
  return html`<div class=${`note ${tone}${banner ? ' banner' : ''}`} ...${rest}>
    <${Icon} name=${icon || noteIcons[tone]} /><div>${children}</div>
    ${(acts || onClose) && html`<span class="row">${acts}${onClose && html`<${Button} kind="quiet tiny only" icon="x" label="Dismiss" onClick=${onClose} />`}</span>`}
  </div>`;
}

/** Failure shows an error of the API with its hint. When an outage begins or ends it asks again by itself. */
export function Failure({ error, what, retry }) {
  const { outage } = useShared(), was = useRef(outage);
  useEffect(() => {
    if (was.current !== outage && error) retry?.();
    was.current = outage;
  }, [outage]);
  if (!error) return null;
  const acts = retry && html`<${Button} kind="tiny" onClick=${retry}>Try again</${Button}>`;
  return html`<${Note} tone="bad" role="alert" acts=${acts}><b>${what || 'This could not be read.'}</b> ${error.message}${error.hint && html`. ${error.hint}`}
    ${error.requestId && html` <span class="muted">Request ${error.requestId}</span>`}</${Note}>`;
}

/** Time is a point in time, as people say it, with the exact one in its title. */
export function Time({ at }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 30000);
    return () => clearInterval(timer);
  }, []);
  return html`<time datetime=${at} title=${exact(at)}>${ago(at)}</time>`;
}

/** Ver is a version: tone "theirs", "info" or "struck". */
export function Ver({ n, tone = '' }) {
  return html`<span class=${`ver ${tone}`.trim()}>v${n}</span>`;
}

/** Chip is a short label, with an icon if it has one. */
export function Chip({ tone = '', icon, children }) {
  return html`<span class=${`chip ${tone}`.trim()}>${icon && html`<${Icon} name=${icon} />`}${children}</span>`;
}

/** State is an icon with its word, in a tone. */
export function State({ tone = '', icon, children }) {
  return html`<span class=${`state ${tone ? `tone ${tone}` : ''}`.trim()}>${icon && html`<${Icon} name=${icon} />`}${children}</span>`;
}

/** Ghost holds the place of rows that are being read. */
export function Ghost({ rows = 4 }) {
  return html`<div class="panel" aria-hidden="true"><div class="pad stack">${Array.from({ length: rows }, (_, i) => html`<span class=${`ghost ${['w1', '', 'w2'][i % 3]}`} />`)}</div></div>`;
}

/** Seg is two to five choices. With `name` they are radio buttons, else buttons that are pressed. */
export function Seg({ label, name, value, options, onChange, id, describedby }) {
  const list = options.map((o) => (typeof o === 'object' ? o : { value: o, label: String(o) }));
  if (!name) {
    return html`<div class="seg" role="group" aria-label=${label}>${list.map((o) => html`<button type="button" aria-pressed=${String(o.value === value)} onClick=${() => onChange(o.value)}>${o.label}</button>`)}</div>`;
  }
  return html`<fieldset class="seg" id=${id} tabindex=${id ? -1 : undefined} aria-describedby=${describedby}><legend class="sr">${label}</legend>${list.map((o) => html`<label>
    <input type="radio" name=${name} checked=${o.value === value} onChange=${() => onChange(o.value)} />${o.label}</label>`)}</fieldset>`;
}

/** Find is a filter of what the view shows; `f` focuses it. */
export function Find({ id, label, value, onInput }) {
  return html`<span class="find"><label class="sr" for=${id}>${label}</label><${Icon} name="filter" />
    <input id=${id} type="search" placeholder=${label} value=${value} data-filter="" autocomplete="off" onInput=${(e) => onInput(e.target.value)} /></span>`;
}

/** Tabs: items are {label, href, count, current}. `[` and `]` move between them. */
export function Tabs({ label, items }) {
  return html`<nav class="tabs" aria-label=${label}>${items.map((t) => html`<a href=${t.href} aria-current=${t.current ? 'page' : undefined}>${t.label}${t.count !== undefined && t.count !== null && html` <span>${t.count}</span>`}</a>`)}</nav>`;
}

/**
 * Table: columns are names or {label, sr}, rows are arrays of cells (or {key, cells, props}). Roles
 * are written out because narrow screens turn rows into cards, which takes the table's own away.
 */
export function Table({ caption, columns, rows, kind = '' }) {
  const names = columns.map((c) => (typeof c === 'string' ? { label: c } : c));
  return html`<table class=${`table ${kind}`.trim()} role="table"><caption class="sr">${caption}</caption>
    <thead role="rowgroup"><tr role="row">${names.map((c) => html`<th role="columnheader" scope="col">${c.sr ? html`<span class="sr">${c.label}</span>` : c.label}</th>`)}</tr></thead>
    <tbody role="rowgroup">${rows.map((row) => {
      const { key, cells, props } = Array.isArray(row) ? { cells: row } : row;
      return html`<tr role="row" key=${key} ...${props}>${cells.map((cell, i) => html`<td role="cell" class=${names[i]?.act ? 'act' : undefined} data-label=${i > 0 && !names[i]?.act ? names[i]?.label : undefined}>${cell}</td>`)}</tr>`;
    })}</tbody></table>`;
}

/** Dialog opens at once and is closed by its owner, who stops drawing it. Escape asks onClose. */
export function Dialog({ title, aside, slim, onClose, onSubmit, children, footer, closable = true }) {
  const ref = useRef(null);
  const id = useRef(`d${Math.random().toString(36).slice(2)}`);
  useLayoutEffect(() => { // at once: a key that comes next is meant for the dialog
    const dialog = ref.current;
    const before = document.activeElement;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector('[data-first]')?.focus();
    return () => {
      if (dialog.open) dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    if (closable) onClose?.();
  };
  const submit = (event) => {
    event.preventDefault();
    onSubmit?.(event);
  };
  return html`<dialog ref=${ref} class=${slim ? 'slim' : undefined} aria-labelledby=${id.current} onCancel=${cancel}><form onSubmit=${submit} novalidate>
    <header><h2 id=${id.current}>${title}</h2>${aside}${closable && html`<${Button} kind="quiet only" class="push" icon="x" label="Close" onClick=${onClose} />`}</header>
    ${children}
    ${footer && html`<footer>${footer}</footer>`}
  </form></dialog>`;
}

/** Drop is a menu made of details; a click elsewhere and Escape close it. */
export function Drop({ label, children, summary, quiet = true }) {
  return html`<details class="drop"><summary class=${`btn ${quiet ? 'quiet' : ''} ${summary ? '' : 'only'}`}>${summary || html`<${Icon} name="dots" />`}${label && html`<span class="sr">${label}</span>`}</summary><div class="list">${children}</div></details>`;
}

/** Cmd is a command with a Copy button; `word` is its text where copying is what comes next. */
export function Cmd({ text, word }) {
  return html`<div class="cmd"><code>${text}</code><${Copy} kind=${word ? 'tiny' : 'quiet tiny only'} text=${text}>${word}</${Copy}></div>`;
}

/** Copy puts a text on the clipboard and says so in its place. */
export function Copy({ text, kind = 'quiet tiny', label, children }) {
  const { say } = useApp();
  const [done, set] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(typeof text === 'function' ? text() : text);
      set(true);
      say('Copied');
    } catch {
      say('Not copied: this browser allows it over HTTPS and on localhost only');
    }
  };
  return html`<${Button} kind=${kind} icon=${done ? 'check' : 'copy'} label=${children ? label : done ? 'Copied' : 'Copy'} onClick=${copy}>${children && (done ? 'Copied' : children)}</${Button}>`;
}

/** Reason asks why; its text is kept with the version. */
export function Reason({ id, value, onInput, first }) {
  return html`<div><label class="label-top" for=${id}>Why?</label>
    <textarea id=${id} rows="2" maxlength="1024" data-first=${first ? '' : undefined} aria-describedby=${`${id}-h`} placeholder="A line you will understand in six months" value=${value} onInput=${(e) => onInput(e.target.value)} />
    <div class="hint" id=${`${id}-h`}><span>Shown in the history with your name and the time.</span><span class="push">${[...value].length} of 1,024</span></div></div>`;
}
