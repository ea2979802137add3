// Values as rows show them, and what differs between two of them. Everything is text.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { near, words } from '../lib/diff.js';
import { number, shown } from '../lib/format.js';

const most = 1500;

/** Value is a value as text; a long one is cut until asked for. */
export function Value({ value, secret }) {
  const [all, setAll] = useState(false);
  if (secret) return html`••••••••`;
  const text = shown(value);
  if (all || text.length <= most) return html`<bdi>${text}</bdi>`;
  return html`<bdi>${text.slice(0, most)}</bdi>… <button type="button" class="link" onClick=${() => setAll(true)}>show all ${number(text.length)} characters</button>`;
}

const isLong = (value) => typeof value === 'string' && (value.length > 40 || value.includes('\n'));

/** Change is a row of a difference: key, old, new; long texts in one block, by word. */
export function Change({ name, from, to, fromNote, toNote, acts, about, secret }) {
  if (!secret && typeof from === 'string' && typeof to === 'string' && Math.max(from.length, to.length) > most) {
    const cut = near(from, to);
    if (cut.same > most / 2) return html`<${Change} name=${name} from=${cut.from} to=${cut.to} fromNote=${fromNote} toNote=${toNote} acts=${acts} about=${html`${about && html`${about}. `}${number(cut.same)} characters around it are the same`} />`;
  }
  const key = about ? html`<div><code class="key">${name}</code><div class="about">${about}</div></div>` : html`<code class="key">${name}</code>`;
  if (!secret && !acts && isLong(from) && isLong(to) && from.length + to.length < 100000) {
    return html`<div class="change wide">${key}<div class="same">${words(from, to).map((p) => (p.kind === 'del' ? html`<del>${p.text}</del>` : p.kind === 'ins' ? html`<ins>${p.text}</ins>` : p.text))}</div></div>`;
  }
  const side = (value, note) => html`<${Value} value=${value} secret=${secret} />${note && html` <span class="muted">${note}</span>`}`;
  return html`<div class=${`change${acts ? ' acts' : ''}`}>${key}<span class="old"><span class="sr">from </span>${side(from, fromNote)}</span><span class="new"><span class="sr">to </span>${side(to, toNote)}</span>${acts}</div>`;
}
