// What the draft changes, beside the form.
import { html } from '../lib/html.js';
import { shown } from '../lib/format.js';
import { wanted } from '../lib/merge.js';
import { pathOf } from '../lib/service.js';
import { get } from '../lib/values.js';
import { Button } from './basic.js';

const brief = (value) => (value === undefined ? 'default' : Array.isArray(value) && value.length > 3 ? `${value.length} items` : shown(value).slice(0, 120));

/** ChangesAside lists each change with a way to it and a way back. */
export function ChangesAside({ model, editor, base, onUndo, goTo }) {
  const path = pathOf(model.rows);
  const keys = Object.keys(editor.changed).sort();
  return html`<aside class="keep" aria-label="Your changes"><section class="panel"><header><h2>Your changes</h2><span class="muted push">${keys.length}</span></header>
    ${keys.length > 0 ? html`<ul class="changes">${keys.map((key) => {
      const change = editor.changed[key];
      const row = model.rows.find((r) => r.key === key);
      const old = get(base, path(key)) ?? row?.default;
      return html`<li key=${key}><div class="row">${row ? html`<button type="button" class="link mono" onClick=${() => goTo(key)}>${key}</button>` : html`<code>${key}</code>`}
        ${row && html`<${Button} kind="quiet tiny only" class="push" icon="undo" title="Undo this change" label=${`Undo the change of ${key}`} onClick=${() => onUndo(row)} />`}</div>
        <span class="old">${brief(old)}</span><span class="new">${change.error ? change.text : change.remove ? html`${brief(row?.default)} <span class="muted">default</span>` : brief(wanted(change))}</span></li>`;
    })}</ul>` : html`<p class="pad muted">Nothing is changed yet.</p>`}
    <footer>from v${editor.draft.base}${editor.behind && editor.conflicts.length === 0 ? `, fits on v${model.version}` : ''}</footer></section></aside>`;
}
