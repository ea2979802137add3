// What can be done with a service as a whole: copy, export, restore, delete.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { download } from '../lib/download.js';
import { dropDraft } from '../lib/draft.js';
import { count } from '../lib/format.js';
import { href } from '../lib/router.js';
import { flatten } from '../lib/profiles.js';
import { Button, Dialog, Drop, Note, Reason } from './basic.js';
import { useData } from './context.js';
import { Refused, usePage, useWork } from './kit.js';

/** DeleteDialog deletes a service once its name is typed, and says what goes and what stays. */
function DeleteDialog({ model, off, onClose }) {
  const { api, say, go, store, refresh } = usePage(), work = useWork();
  const [typed, setTyped] = useState(''), [reason, setReason] = useState('');
  const { data } = useData(async () => {
    const [secrets, profiles] = await Promise.all([api.get(at`services/${model.name}/secrets`), api.get(at`profiles`)].map((p) => p.catch(() => null)));
    return { sealed: secrets?.secrets.filter((s) => s.set && s.source === 'database').length ?? 0, profiles: (profiles?.profiles ?? []).filter((p) => Object.hasOwn(p.services, model.name)).map((p) => p.name) };
  }, [model.version]);
  const values = flatten(model.stored).size, sealed = data?.sealed ?? 0, profiles = data?.profiles ?? [];
  const why = off || (typed !== model.name ? `Type ${model.name} first` : '');
  const remove = () => why === '' && work.run(async () => {
    const query = new URLSearchParams({ version: model.version, reason });
    const out = await api.del(`${at`services/${model.name}`}?${query}`);
    dropDraft(model.name);
    say(`Deleted ${model.name}`);
    store.set({ told: { text: `Deleted ${model.name}, as v${out.new_version}.`, href: href(['services', model.name]) } });
    refresh();
    go('#/services');
  });
  const footer = html`<span class="push row"><${Button} kind="quiet" onClick=${onClose}>Keep it</${Button}><${Button} kind="danger" icon="x" type="submit" off=${why} data-review="">Delete ${model.name}</${Button}></span>`;
  return html`<${Dialog} title=${`Delete ${model.name}`} onClose=${onClose} onSubmit=${remove} footer=${footer}><div class="pad stack">
    <ul><li><b>At once</b> every agent answers 404 for ${model.name}. What runs keeps the values it has read, and finds none when it starts again.</li>
      <li><b>Gone for good:</b> ${sealed > 0 ? `${count(sealed, 'stored secret')}. No restore brings ${sealed === 1 ? 'it' : 'them'} back.` : 'nothing else. It has no stored secret.'}</li>
      <li><b>Stays:</b> the history, so ${count(values, 'stored value')} can be restored, and the schema.</li>
      ${profiles.length > 0 && html`<li><b>${count(profiles.length, 'profile')}</b> ${profiles.length === 1 ? 'has' : 'have'} values of it (${profiles.join(', ')}): activating ${profiles.length === 1 ? 'it' : 'one'} makes the service again.</li>`}</ul>
    <div><label class="label-top" for="dn">Type <code>${model.name}</code> to delete it</label><input class="mono" id="dn" data-first="" autocomplete="off" spellcheck="false" value=${typed} onInput=${(e) => setTyped(e.currentTarget.value.trim())} /></div>
    <${Reason} id="dr" value=${reason} onInput=${setReason} /><${Refused} error=${work.error} /></div></${Dialog}>`;
}

/** ExportDialog puts the values into a file: what a service reads, or what is stored. Never secrets. */
function ExportDialog({ model, onClose }) {
  const { say } = usePage();
  const [which, setWhich] = useState('effective');
  const doc = which === 'effective' ? model.config : model.stored;
  const name = `${model.name}-v${model.version}${which === 'stored' ? '-stored' : ''}.json`;
  const go = () => {
    download(name, JSON.stringify(doc, null, 2) + '\n');
    say(`Exported ${name}`);
    onClose();
  };
  const option = (value, label, text) => html`<label><input type="radio" name="ex" checked=${which === value} data-first=${which === value ? '' : undefined} onChange=${() => setWhich(value)} /><b>${label}</b><span class="muted">${text}</span></label>`;
  const footer = html`<span class="muted">${count(flatten(doc).size, 'value')}</span><span class="push row"><${Button} kind="quiet" onClick=${onClose}>Cancel</${Button}><${Button} kind="primary" icon="copy" type="submit" data-review="">Export ${name}</${Button}></span>`;
  return html`<${Dialog} slim title=${`Export ${model.name} as JSON`} onClose=${onClose} onSubmit=${go} footer=${footer}><div class="pad stack">
    <div class="pick" role="radiogroup" aria-label="Which values">${option('effective', 'Effective values', 'Defaults and stored values together, as the service reads them.')}${option('stored', 'Stored values only', 'What somebody set. “Edit” and the command line take it as it is.')}</div>
    <${Note} tone="info" icon="lock">Secrets are in neither of them, and neither are values of an agent’s environment.</${Note}></div></${Dialog}>`;
}

/** ServiceMenu is the menu of a service. */
export function ServiceMenu({ model, off, onJSON }) {
  const { say } = usePage();
  const [open, setOpen] = useState('');
  const curl = async () => {
    try {
      await navigator.clipboard.writeText(`curl -H "X-API-Token: $TOKEN" "${location.origin}${at`services/${model.name}`}"`);
      say('Copied');
    } catch {
      say('Not copied: this browser allows it over HTTPS and on localhost only');
    }
  };
  return html`<${Drop} label="More"><button type="button" onClick=${curl}>Copy as curl</button><button type="button" onClick=${() => setOpen('export')}>Export as JSON</button>
      ${onJSON && html`<button type="button" onClick=${onJSON}>Show as JSON</button>`}<a href=${href(['services', model.name, 'history'])}>Restore an earlier version</a><a href="#/profiles">Profiles</a><hr />
      <button type="button" class="bad tone" aria-disabled=${off ? 'true' : undefined} title=${off || undefined} onClick=${() => (off ? say(off) : setOpen('delete'))}>Delete the service</button></${Drop}>
    ${open === 'delete' && html`<${DeleteDialog} model=${model} off=${off} onClose=${() => setOpen('')} />`}
    ${open === 'export' && html`<${ExportDialog} model=${model} onClose=${() => setOpen('')} />`}`;
}
