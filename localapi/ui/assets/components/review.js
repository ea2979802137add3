// Before saving: what the effective document will be, and why.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { changes } from '../lib/diff.js';
import { count } from '../lib/format.js';
import { wholeOf } from '../lib/service.js';
import { Button, Dialog, Failure, Icon, Note, Reason, Ver } from './basic.js';
import { Change } from './value.js';
import { equal, get } from '../lib/values.js';
import { activeOf, standing, waysOf } from '../lib/rollouts.js';
import { href } from '../lib/router.js';
import { useInstances } from './instances.js';

function noteOf(rows, key, value) {
  const row = rows.find((r) => r.key === key);
  return row?.hasDefault && equal(row.default, value) ? 'default' : '';
}

/** Ways asks how the change goes out. Where a rollout runs already, a save for all ends it. */
function Ways({ list, value, set, why }) {
  return html`<div class="pick" role="radiogroup" aria-label="How it goes out">${list.map((w) => html`<label key=${w.value}><input type="radio" name="way" value=${w.value} checked=${value === w.value} disabled=${Boolean(why) && w.plan !== null} onChange=${() => set(w.value)} /><span class="strong">${w.title}</span><span class="muted">${w.text}</span></label>`)}</div>
    ${why && html`<p class="muted">${why}</p>`}`;
}

/** Review shows the difference and saves with a reason. onSaved gets the answer, onConflict a 409. */
export function Review({ model, editor, off, rollouts, onClose, onSaved, onConflict, merged }) {
  const [reason, setReason] = useState(editor.draft.reason);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const next = editor.check.nextVersion ?? model.version + 1;
  const list = editor.effective ? changes(model.config, editor.effective, wholeOf(model.rows)) : [];
  const { data: said } = useInstances(model.name), active = activeOf(rollouts, model.name);
  const { ways, first, own } = waysOf(model.schema?.schema, said?.instances);
  const [chosen, setWay] = useState(first), [met, setMet] = useState(false); // met: a rollout began meanwhile
  const ends = active !== null || met;
  const members = said?.instances.filter((i) => i.kind === 'member' && i.status !== 'lost') ?? [];
  const alone = said && members.length === 0 && said.complete ? 'In steps is off: no live instance is known that could try the change first.' : said === null ? 'In steps is off: the cluster does not know its instances.' : '';
  const way = alone ? ways[0] : ways.find((w) => w.value === chosen) ?? ways[0];
  const sent = ends ? { rollout: 'replace' } : way.plan ? { plan: way.plan } : { rollout: own ? 'none' : undefined };
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
      onSaved(await editor.save(reason, sent));
    } catch (refused) {
      if (refused.code === 'version_conflict') onConflict(refused);
      else if (refused.code === 'rollout_active') setMet(true);
      else setError(refused);
    }
    setBusy(false);
  };
  const bytes = new TextEncoder().encode(reason).length;
  const stop = off || (bytes > 1024 ? 'The reason is longer than 1,024 bytes' : busy ? 'Saving' : '');
  const aside = html`<span class="row muted"><${Ver} n=${model.version} /><${Icon} name="arrow" /><${Ver} n=${next} tone="info" /></span>`;
  const footer = html`<span class="muted">${off || (editor.check.effective ? 'Checked against the schema just now.' : '')}</span><span class="push row"><${Button} kind="quiet" onClick=${onClose}>Back to the form</${Button}>
    <${Button} kind="primary" icon="check" off=${stop} data-review="" kbd="Ctrl ↵" onClick=${save}>${ends ? `Save as v${next}, end the rollout` : way.plan ? `Start the rollout of v${next}` : `Save as v${next}`}</${Button}></span>`;
  return html`<${Dialog} title=${`Save ${count(editor.count, 'change')} to ${model.name}`} aside=${aside} onClose=${onClose} onSubmit=${save} footer=${footer}>
    ${merged && html`<${Note} tone="theirs"><b>v${model.version} by ${model.changedBy} came first.</b> You changed other keys, so there is no conflict: these are your changes on top of it.</${Note}>`}
    ${list.map((c) => html`<${Change} key=${c.key} name=${c.key} from=${c.old} to=${c.new} fromNote=${noteOf(model.rows, c.key, c.old)} toNote=${noteOf(model.rows, c.key, c.new)} />`)}
    ${quiet && html`<p class="pad">The effective document stays the same: these values are the defaults, or the environment decides them.</p>`}
    ${same.length > 0 && html`<details class="pad"><summary>${count(same.length, 'more field')} ${same.length === 1 ? 'stays as it is' : 'stay as they are'}</summary><dl class="facts gap">${same.slice(0, 200).map((row) => html`<dt><code>${row.key}</code></dt><dd class="mono clip">${JSON.stringify(get(model.config, row.path) ?? null).slice(0, 200)}</dd>`)}</dl></details>`}
    <div class="pad stack"><${Reason} id="why" first value=${reason} onInput=${write} />
      ${ends ? html`<${Note} tone="theirs" icon="steps" role="alert" acts=${html`<${Button} kind="tiny" href=${active ? href(['rollouts', active.id]) : '#/rollouts'}>See the rollout</${Button}>`}><b>A rollout of ${model.name} ${active ? `is in the way: v${active.candidate} by ${active.started_by}, ${standing(active)}` : 'has just begun'}.</b> Saving ends it: its change is given up, and all instances get yours. Or wait for its end; your draft is kept.</${Note}>` : rollouts && html`<${Ways} list=${ways} value=${way.value} set=${setWay} why=${alone} />`}
      ${error && html`<${Failure} error=${error} what=${error.code === 'outcome_unknown' ? 'It is not known whether this was saved.' : 'Nothing was saved.'} retry=${error.code === 'outcome_unknown' ? save : null} />`}</div>
  </${Dialog}>`;
}
