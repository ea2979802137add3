// Dialogs of the profiles: save, activate with what would change, delete.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Dialog, Icon, Note } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Choice, Loading, Refused, useName, usePage, useWork } from '../components/kit.js';
import { changes, show, validName } from '../lib/profiles.js';
import { at, withQuery } from '../lib/api.js';
import { count } from '../lib/format.js';

// preview asks the API what activating would make of each service.
async function preview(api, profile) {
  return Promise.all(Object.entries(profile.services).map(async ([service, config]) => {
    try {
      const [now, next] = await Promise.all([api.get(at`services/${service}`), api.post(at`services/${service}/validate`, { config, mode: 'put' })]);
      return { service, version: now.metadata.version, next: next.new_version, changes: changes(now.config, next.config) };
    } catch (error) {
      return { service, error, changes: [] };
    }
  }));
}

function Changed({ group }) {
  return html`<div class="change wide of"><span class="strong">${group.service}</span>${!group.error && html`<span class="row muted"><span class="ver">v${group.version}</span><${Icon} name="arrow" /><span class="ver info">v${group.next}</span></span>`}</div>
    ${group.error && html`<div class="pad"><${Refused} error=${group.error} /></div>`}
    ${group.changes.map((c) => html`<div class="change" key=${c.key}><code class="key">${c.key}</code><span class="old">${show(c.old)}</span><span class="new">${show(c.new)}</span></div>`)}`;
}

export function Activate({ profile, close }) {
  const { api } = usePage(), id = useName();
  const read = useData(() => preview(api, profile), []), { data } = read;
  const [reason, setReason] = useState('');
  const work = useWork();
  const changed = (data ?? []).filter((g) => g.changes.length > 0 || g.error);
  const values = changed.reduce((n, g) => n + g.changes.length, 0);
  const why = !data ? 'The preview is not there yet' : changed.some((g) => g.error) ? 'A service refuses its values' : values === 0 ? 'Nothing would change' : '';
  const go = async () => {
    if (why) return;
    const out = await work.run(() => api.post(at`profiles/${profile.name}/activate`, { reason }));
    if (out) close({ text: `${profile.name} is active.`, more: `Changed: ${out.services.filter((s) => s.changed).map((s) => `${s.service} v${s.new_version}`).join(', ')}.` });
  };
  return html`<${Dialog} title=${`Activate ${profile.name}`} onClose=${() => close()} onSubmit=${go}
    aside=${data && html`<span class="muted">${count(values, 'value')} of ${count(changed.length, 'service')}, all or none</span>`}
    footer=${html`<${Choice} onClose=${() => close()} kind="primary" icon="play" off=${why}>${`Activate ${profile.name}`}<//>`}>
    ${!data ? html`<div class="pad"><${Loading} read=${read} /></div>` : changed.map((g) => html`<${Changed} key=${g.service} group=${g} />`)}
    <div class="pad stack">${data && values === 0 && html`<${Note} tone="info">Every service has these values already.<//>`}<${Refused} error=${work.error} />
    <label class="label-top" for=${id}>Why?</label><textarea id=${id} rows="1" data-first value=${reason} onInput=${(e) => setReason(e.currentTarget.value)}></textarea></div><//>`;
}

export function Save({ profile, services, names, close }) {
  const { api } = usePage(), id = useName();
  const [name, setName] = useState(profile?.name ?? ''), [about, setAbout] = useState(profile?.description ?? '');
  const [chosen, setChosen] = useState(() => new Set(profile ? Object.keys(profile.services) : services.map((s) => s.service)));
  const work = useWork();
  const bad = name !== '' && !validName(name) ? 'letters, digits, dot, underscore and dash; at most 63' : '';
  const why = !validName(name) ? 'Give it a name' : chosen.size === 0 ? 'Choose a service' : '';
  const replaces = names.includes(name);
  const flip = (s) => setChosen((old) => {
    const next = new Set(old);
    if (!next.delete(s)) next.add(s);
    return next;
  });
  const go = async () => {
    if (why) return;
    const out = await work.run(() => api.put(withQuery(at`profiles/${name}`, { service: [...chosen].join(',') }), { description: about }));
    if (out) close({ text: `Saved ${name}.`, more: `It has the values of ${count(Object.keys(out.profile.services).length, 'service')}.` });
  };
  return html`<${Dialog} slim title=${profile ? `Save current values over ${profile.name}` : 'Save current values'} onClose=${() => close()} onSubmit=${go}
    footer=${html`<${Choice} onClose=${() => close()} kind="primary" icon="layers" off=${why}>${!name ? 'Save' : replaces ? `Replace ${name}` : `Save ${name}`}<//>`}>
    <div class="pad form"><${Refused} error=${work.error} />
    <div><label class="label-top" for=${`${id}n`}>Name</label><input id=${`${id}n`} data-first autocomplete="off" value=${name} readonly=${Boolean(profile)} aria-invalid=${bad ? 'true' : undefined} aria-describedby=${`${id}e ${id}r`} onInput=${(e) => setName(e.currentTarget.value)} />
    <p class="err" id=${`${id}e`} hidden=${!bad}>${bad}</p><div class="hint" id=${`${id}r`}><span>${replaces ? `${name} exists: its values are replaced.` : ''}</span></div></div>
    <div><label class="label-top" for=${`${id}d`}>What for</label><input id=${`${id}d`} value=${about} maxlength="1024" placeholder="Quiet, dim, slow" onInput=${(e) => setAbout(e.currentTarget.value)} /></div>
    <fieldset><legend class="label-top">Services</legend><div class="cols">${services.map((s) => html`<label class="row" key=${s.service}><input type="checkbox" checked=${chosen.has(s.service)} onChange=${() => flip(s.service)} />${s.service}</label>`)}</div></fieldset></div><//>`;
}

export function Remove({ profile, close }) {
  const { api } = usePage(), work = useWork();
  const go = async () => {
    const out = await work.run(() => api.del(at`profiles/${profile.name}`));
    if (out) close({ text: `Deleted ${profile.name}.`, more: 'No service has changed.' });
  };
  return html`<${Dialog} slim title=${`Delete ${profile.name}`} onClose=${() => close()} onSubmit=${go}
    footer=${html`<${Choice} onClose=${() => close()} kind="danger">${`Delete ${profile.name}`}<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>The profile goes; the values of its ${count(Object.keys(profile.services).length, 'service')} stay as they are. It cannot be brought back.</p></div><//>`;
}
