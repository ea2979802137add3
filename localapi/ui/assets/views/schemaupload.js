// What a new schema changes and which values it refuses; those are corrected here and stored
// together with it.
import { useRef } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Chip, Note, Reason } from '../components/basic.js';
import { Panel, Refused, useName } from '../components/kit.js';
import { bytes, clipped, count } from '../lib/format.js';
import { show } from '../lib/profiles.js';
import { parsed } from '../lib/schemadiff.js';

const Changes = ({ title, list }) => (list.length === 0 ? null : html`<dt>${title}</dt>${list.slice(0, 100).map((c) => html`<dd key=${c.key}><code>${c.key}</code> ${clipped(c.text, 300)}</dd>`)}${list.length > 100 && html`<dd>and ${count(list.length - 100, 'more field')}</dd>`}`);

// Fix is a value that the new schema refuses, with a control for another one.
function Fix({ item, fix, set }) {
  const id = useName();
  const text = fix ? (fix.gone ? '' : fix.text) : item.has ? show(item.value) : '';
  return html`<div><label class="label-top" for=${id}><code>${item.key}</code></label>
    <input class="mono" id=${id} value=${text} readonly=${Boolean(fix?.gone)} aria-describedby=${`${id}h`} onInput=${(e) => set({ text: e.currentTarget.value, value: parsed(e.currentTarget.value, item.field) })} />
    <div class="hint" id=${`${id}h`}><span>${item.message}</span>${item.has && html`<button type="button" class="link" onClick=${() => set(fix?.gone ? null : { gone: true })}>${fix?.gone ? 'give it a value' : 'remove the value'}</button>`}</div></div>`;
}

function chipOf(result, open) {
  if (!result) return null;
  const [tone, text] = result.rejected ? ['bad', 'rejected'] : open > 0 ? ['bad', `would break ${open}`] : ['ok', 'takes every value'];
  return html`<span class="push"><${Chip} tone=${tone}>${text}<//></span>`;
}

/** Upload is the preview of a new schema, and stores it. `of` is that of useSchemaDraft. */
export function Upload({ of, off }) {
  const { draft, fixes, typed, error } = of, file = useRef(null), id = useName();
  const picked = async (e) => {
    const [one] = e.currentTarget.files;
    if (one) await of.file(await one.text(), one.name);
    e.target.value = '';
  };
  const result = draft?.result, open = draft?.open?.size ?? 0;
  const why = off || (draft?.error ? 'It is not JSON yet' : !result ? 'It is not checked yet' : result.rejected ? 'Correct the schema first' : open > 0 ? 'Correct the values that it refuses first, then check again' : '');
  const again = draft?.schema && (Object.keys(fixes).length > 0 || error);
  const none = draft?.changes && draft.changes.added.length + draft.changes.changed.length + draft.changes.removed.length === 0;
  return html`<${Panel} title=${draft ? 'New schema, checked' : 'New schema'} side=${chipOf(result, open)} footer=${html`<span class="row">
      <input type="file" class="sr" tabindex="-1" aria-hidden="true" ref=${file} accept=".json,application/json" aria-label="Schema file" onChange=${picked} />
      <${Button} kind=${draft ? 'tiny' : ''} icon="up" off=${off} onClick=${() => file.current.click()}>${draft ? 'Another file' : 'Choose a file'}<//>
      ${draft?.schema && html`<span class="push row">${again && html`<${Button} onClick=${of.again}>Check again<//>`}
        <${Button} kind="primary" icon="check" off=${why} data-review="" onClick=${of.store}>${result?.next ? `Store as v${result.next}` : 'Store'}<//></span>`}</span>`}>
    ${!draft && html`<p class="pad">${typed !== null ? 'The agent checks it a moment after the last key.' : 'A JSON Schema, as Pydantic, zod or Go emit it: a file, or “Edit” beside the stored one. It is compared and checked against the stored values before anything is stored.'}</p>`}
    ${draft?.error && html`<${Note} tone="bad" role="alert"><b>${draft.name}</b> ${draft.error}<//>`}
    ${draft?.changes && html`<div class="pad stack"><p>${draft.name}, ${bytes(draft.size)}${result ? `, checked against the values of v${result.version}` : ''}. Nothing is stored yet.</p>
      <dl class="facts"><${Changes} title="Added" list=${draft.changes.added} /><${Changes} title="Changed" list=${draft.changes.changed} /><${Changes} title="Removed" list=${draft.changes.removed} /></dl>
      ${none && html`<p class="muted">No field changes.</p>`}</div>`}
    ${result?.rejected && html`<${Note} tone="bad" role="alert"><b>The agent does not take this schema.</b><ul>${result.rejected.map((d) => html`<li><code>${d.key}</code> ${d.message}</li>`)}</ul><//>`}
    ${open > 0 && html`<${Note} tone="bad" role="alert"><b>${count(open, 'stored value')} would be invalid.</b><ul>${[...draft.open].map(([key, message]) => html`<li key=${key}><code>${key}</code> ${message}</li>`)}</ul><//>`}
    ${result?.stale.length > 0 && html`<${Note} tone="warn"><b>${count(result.stale.length, 'profile')} could not be activated any more.</b><ul>${result.stale.map((s) => html`<li><b>${s.profile}</b>: ${s.error}</li>`)}</ul>Save them again afterwards.<//>`}
    ${draft?.items?.length > 0 && html`<div class="pad stack"><h3>Store schema and values together</h3>${draft.items.map((item) => html`<${Fix} key=${item.key} item=${item} fix=${fixes[item.key]} set=${(v) => of.fix(item.key, v)} />`)}</div>`}
    ${draft?.schema && html`<div class="pad"><${Reason} id=${id} value=${of.reason} onInput=${of.setReason} /></div>`}
    ${error && html`<div class="pad"><${Refused} error=${error} /></div>`}<//>`;
}
