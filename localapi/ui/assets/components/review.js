// Before saving: what the effective document will be, and why.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { changes } from '../lib/diff.js';
import { count } from '../lib/format.js';
import { wholeOf } from '../lib/service.js';
import { Button, Dialog, Failure, Icon, Note, Reason, Ver } from './basic.js';
import { Change } from './value.js';
import { equal, get } from '../lib/values.js';

function noteOf(rows, key, value) {
  const row = rows.find((r) => r.key === key);
  return row?.hasDefault && equal(row.default, value) ? 'default' : '';
}

/** Review shows the difference and saves with a reason. onSaved gets the answer, onConflict a 409. */
export function Review({ model, editor, off, onClose, onSaved, onConflict, merged }) {
  const [reason, setReason] = useState(editor.draft.reason);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const next = editor.check.nextVersion ?? model.version + 1;
  const list = editor.effective ? changes(model.config, editor.effective, wholeOf(model.rows)) : [];
  const quiet = editor.effective && list.length === 0;
  const same = model.rows.filter((row) => !row.secret && !list.some((c) => c.key === row.key));
  const write = (text) => {
    setReason(text);
    editor.update({ reason: text });
  };
  const save = async () => {
    if (busy || off) return;
    setBusy(true);
    setError(null);
    try {
      onSaved(await editor.save(reason));
    } catch (refused) {
      if (refused.code === 'version_conflict') onConflict(refused);
      else setError(refused);
    }
    setBusy(false);
  };
  const bytes = new TextEncoder().encode(reason).length;
  const stop = off || (bytes > 1024 ? 'The reason is longer than 1,024 bytes' : busy ? 'Saving' : '');
  const aside = html`<span class="row muted"><${Ver} n=${model.version} /><${Icon} name="arrow" /><${Ver} n=${next} tone="info" /></span>`;
  const footer = html`<span class="muted">${off || (editor.check.effective ? 'Checked against the schema just now.' : '')}</span><span class="push row"><${Button} kind="quiet" onClick=${onClose}>Back to the form</${Button}>
    <${Button} kind="primary" icon="check" off=${stop} data-review="" kbd="Ctrl ↵" onClick=${save}>Save as v${next}</${Button}></span>`;
  return html`<${Dialog} title=${`Save ${count(editor.count, 'change')} to ${model.name}`} aside=${aside} onClose=${onClose} onSubmit=${save} footer=${footer}>
    ${merged && html`<${Note} tone="theirs"><b>v${model.version} by ${model.changedBy} came first.</b> You changed other keys, so there is no conflict: these are your changes on top of it.</${Note}>`}
    ${list.map((c) => html`<${Change} key=${c.key} name=${c.key} from=${c.old} to=${c.new} fromNote=${noteOf(model.rows, c.key, c.old)} toNote=${noteOf(model.rows, c.key, c.new)} />`)}
    ${quiet && html`<p class="pad">The effective document stays the same: these values are the defaults, or the environment decides them.</p>`}
    ${same.length > 0 && html`<details class="pad"><summary>${count(same.length, 'more field')} ${same.length === 1 ? 'stays as it is' : 'stay as they are'}</summary><dl class="facts gap">${same.slice(0, 200).map((row) => html`<dt><code>${row.key}</code></dt><dd class="mono clip">${JSON.stringify(get(model.config, row.path) ?? null).slice(0, 200)}</dd>`)}</dl></details>`}
    <div class="pad stack"><${Reason} id="why" first value=${reason} onInput=${write} />${error && html`<${Failure} error=${error} what=${error.code === 'outcome_unknown' ? 'It is not known whether this was saved.' : 'Nothing was saved.'} retry=${error.code === 'outcome_unknown' ? save : null} />`}</div>
  </${Dialog}>`;
}
