// Restore a version: its values become a new one, with a reason.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { changes } from '../lib/diff.js';
import { apply } from '../lib/merge.js';
import { pathOf, readStored, wholeOf } from '../lib/service.js';
import { get } from '../lib/values.js';
import { Button, Dialog, Failure, Reason } from './basic.js';
import { useApp, useData } from './context.js';
import { Change } from './value.js';

/** RestoreDialog restores all of a version, or only the key `only` (a path with its name). */
export function RestoreDialog({ model, version, only, off, onClose, onDone }) {
  const { api } = useApp();
  const { data: stored, error } = useData(() => readStored(api, model.name, version), [version]);
  const [reason, setReason] = useState('');
  const [failed, setFailed] = useState(null);
  const next = model.version + 1;
  const path = only && pathOf(model.rows)(only);
  const target = stored && only ? apply(model.stored, { [only]: get(stored, path) === undefined ? { remove: true } : { to: get(stored, path) } }, () => path) : stored;
  const list = target ? changes(model.stored, target, wholeOf(model.rows)) : [];
  const defaultOf = (key) => model.rows.find((r) => r.key === key)?.default;
  const save = async () => {
    if (off || !target) return;
    try {
      const { data, headers } = only
        ? await api.call('PUT', at`services/${model.name}`, { service: model.name, config: target, version: model.version, reason })
        : await api.call('POST', at`services/${model.name}/restore`, { version, expect: model.version, reason });
      onDone({ version: data.new_version, changed: headers.get('X-Config-Changed') !== 'false', applied: headers.get('X-Config-Applied') !== 'false' });
    } catch (refused) {
      setFailed(refused);
    }
  };
  const stop = off || (!target ? 'The version is being read' : '');
  const footer = html`<span class="push row"><${Button} kind="quiet" onClick=${onClose}>Cancel</${Button}><${Button} kind="primary" icon="undo" off=${stop} data-review="" onClick=${save}>Restore as v${next}</${Button}></span>`;
  return html`<${Dialog} title=${only ? `Restore ${only} of v${version} as v${next}` : `Restore v${version} as v${next}`} onClose=${onClose} onSubmit=${save} footer=${footer}>
    <div>${list.map((c) => html`<${Change} key=${c.key} name=${c.key} from=${c.old ?? defaultOf(c.key)} to=${c.new ?? defaultOf(c.key)} fromNote=${c.old === undefined ? 'default' : ''} toNote=${c.new === undefined ? 'default' : ''} />`)}
      ${target && list.length === 0 && html`<p class="pad">These are the values of v${model.version} already. Secrets are not restored.</p>`}</div>
    <div class="pad stack"><${Reason} id="rr" first value=${reason} onInput=${setReason} /><${Failure} error=${error || failed} what=${failed?.code === 'version_conflict' ? 'Somebody saved a newer version meanwhile.' : 'Nothing was restored.'} /></div></${Dialog}>`;
}
