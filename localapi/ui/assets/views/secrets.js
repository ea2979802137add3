// Secrets of a service. A value is in the page only between "reveal" and 30 seconds
// later, and never in a store, a draft or an address.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Dialog, Note, State, Table, Time } from '../components/basic.js';
import { useData, useTitle } from '../components/context.js';
import { Choice, Loading, Menu, Panel, Refused, useName, usePage, useWork } from '../components/kit.js';
import { ServiceFrame } from '../components/frame.js';
import { SecretDialog } from '../components/secret-dialog.js';
import { at, withQuery } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { ago, quoted } from '../lib/format.js';
import { short } from '../lib/cog.js';
import { stamp } from '../lib/when.js';

export const SHOWN_FOR = 30; // seconds

async function load(api, service, writer) {
  const list = await api.get(at`services/${service}/secrets`);
  // The schema has the descriptions, the access log who revealed one last. The page does
  // without either. A reader would be refused, and each refusal is in the log.
  const schema = await api.get(at`schemas/${service}`).catch(() => null);
  const log = writer ? await api.get(withQuery(at`access`, { action: 'reveal_secret', service, limit: 200 })).catch(() => null) : null;
  const fields = new Map((schema?.fields ?? []).map((f) => [f.key, f]));
  const rows = list.secrets.map((s) => ({ ...s, field: fields.get(s.key), last: log?.results.find((r) => r.key === s.key && r.success), logged: log !== null }));
  return { rows, recent: log?.results.slice(0, 5) ?? [] };
}

function SetValue({ service, secret, close }) {
  return html`<${SecretDialog} service=${service} name=${secret.key} types=${secret.field?.json_types} onClose=${() => close()} onDone=${(made) => close(`Set ${secret.key}, as v${made}.`)} />`;
}

function Reveal({ service, secret, close, show }) {
  const { api } = usePage(), id = useName(), work = useWork();
  const [reason, setReason] = useState('');
  const go = async () => {
    if (reason.trim() === '') return;
    const out = await work.run(() => api.post(at`services/${service}/secrets/${secret.key}/reveal`, { reason }));
    if (out) show(secret.key, out.value);
  };
  return html`<${Dialog} slim title=${`Reveal ${secret.key}`} onClose=${() => close()} onSubmit=${go}
    footer=${html`<${Choice} onClose=${() => close()} kind="primary" icon="eye" off=${reason.trim() ? '' : 'Say why you need to see it'}>${`Reveal for ${SHOWN_FOR} s`}<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} />
    <label class="label-top" for=${id}>Why do you need to see it?</label><input id=${id} data-first aria-describedby=${`${id}h`} placeholder="restoring the proxy by hand" value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} />
    <div class="hint" id=${`${id}h`}><span>Recorded in the access log before the value is shown. Hidden again after ${SHOWN_FOR} s.</span></div>
    ${secret.last && html`<p class="muted">Last revealed by ${secret.last.user_id}, ${ago(secret.last.timestamp, clock.now())}: ${quoted(secret.last.reason)}.</p>`}</div><//>`;
}

function Remove({ service, secret, close }) {
  const { api } = usePage(), work = useWork(), id = useName();
  const [reason, setReason] = useState('');
  const go = async () => {
    const out = await work.run(() => api.del(withQuery(at`services/${service}/secrets/${secret.key}`, { reason })));
    if (out) close(`Removed ${secret.key}, as v${out.new_version}.`);
  };
  return html`<${Dialog} slim title=${`Remove ${secret.key}`} onClose=${() => close()} onSubmit=${go}
    footer=${html`<${Choice} onClose=${() => close()} kind="danger">Remove the secret<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>Its stored value is gone for good: no version brings it back. The service has no value for it until one is set.</p>
    <label class="label-top" for=${id}>Reason</label><input id=${id} data-first value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} /></div><//>`;
}

// Shown is the value and the seconds that are left. Leaving the view hides it, too.
function Shown({ value, end, hide }) {
  const [left, setLeft] = useState(SHOWN_FOR);
  useEffect(() => {
    let stop = () => {};
    const tick = () => {
      const s = Math.ceil((end - clock.now()) / 1000);
      if (s <= 0) return hide();
      setLeft(s);
      stop = clock.after(500, tick);
      return undefined;
    };
    tick();
    return () => stop();
  }, [end]);
  return html`<code class="val">${typeof value === 'string' ? value : JSON.stringify(value)}</code><span class="sub">hidden in ${left} s</span>`;
}

function stateOf(s) {
  if (s.source === 'env') {
    return s.set ? html`<${State} tone="ok" icon="lock">set by the environment<//><span class="sub">${s.env}</span>`
      : html`<${State} tone="warn" icon="warn">not set<//><span class="sub">${s.env} is missing at the agent that answers</span>`;
  }
  if (!s.set) return html`<${State} tone="warn" icon="warn">not set<//>`;
  return html`<${State} tone="ok" icon="check">set, stored<//><span class="sub"><${Time} at=${s.updated_at} />${s.unused && ', not in the schema now'}</span>`;
}

// Recent is who asked to see a value, and why: refusals, too.
function Recent({ list }) {
  const row = (r, i) => ({ key: r.id ?? i, cells: [html`<span class="nowrap">${stamp(r.timestamp, clock.now())}</span>`, html`<span class="strong">${r.user_id}</span>`,
    html`<${State} tone=${r.success ? '' : 'bad'} icon=${r.success ? 'eye' : 'x'}>${r.success ? 'revealed' : 'refused'} <code>${r.key}</code><//>`, r.reason] });
  return html`<${Panel} title="Recently revealed" side=${html`<a class="push" href="#/cog/access">Access log</a>`}><${Table} caption="Recently revealed" columns=${['When, UTC', 'Who', 'What', 'Why']} rows=${list.map(row)} /><//>`;
}

export function Secrets({ name: service }) {
  const { api, change, me, say } = usePage(), writer = me?.role === 'config.write';
  useTitle(`Secrets of ${service}`);
  const read = useData(() => load(api, service, writer), [service, writer]), { data, reload } = read;
  const [open, setOpen] = useState(null), [done, setDone] = useState(''), [shown, setShown] = useState(null);
  useEffect(() => () => setShown(null), [service]);
  const close = (text) => {
    setOpen(null);
    if (!text) return;
    setDone(text);
    setShown(null);
    reload();
  };
  const show = (key, value) => {
    setOpen(null);
    setShown({ key, value, end: clock.now() + SHOWN_FOR * 1000 });
    say(`${key} is shown for ${SHOWN_FOR} seconds`); // never the value
    reload();
  };
  const hide = () => {
    setShown(null);
    say('The value is hidden again');
  };
  const row = (s) => {
    const env = s.source === 'env';
    const name = s.key;
    return { key: name, cells: [
      html`<code class="strong">${name}</code><span class="sub">${s.field?.description}</span>`, stateOf(s),
      shown?.key === name ? html`<${Shown} value=${shown.value} end=${shown.end} hide=${hide} />` : html`<span class="muted nowrap">${s.set ? '••••••••' : 'no value'}</span>`,
      s.last ? html`${s.last.user_id}, <${Time} at=${s.last.timestamp} /><span class="sub">${s.last.reason}</span>` : html`<span class="muted">${s.logged ? 'never' : 'not known'}</span>`,
      html`<span class="row">${shown?.key === name ? html`<${Button} kind="tiny" icon="eye-off" label=${name} onClick=${hide}>Hide<//>` : html`<${Button} kind="tiny" icon="eye" label=${name} onClick=${() => setOpen({ kind: Reveal, secret: s })} off=${change || (env ? 'Environment values are never shown here' : s.set ? '' : 'It has no value')}>Reveal<//>`}
        <${Button} kind="tiny" icon="key" label=${name} onClick=${() => setOpen({ kind: SetValue, secret: s })} off=${change || (env ? `Set by the environment: change ${s.env} in the agent’s .env file` : '')}>Set<//>
        <${Menu} label=${`More of ${name}`} items=${[{ label: 'Remove', danger: true, onClick: () => setOpen({ kind: Remove, secret: s }), off: change || (env ? `Set by the environment: change ${s.env} in the agent’s .env file` : s.set ? '' : 'It has no value') }]} /></span>`] };
  };
  const sealed = [...new Set((data?.rows ?? []).map((s) => s.key_id).filter(Boolean))];
  return html`<${ServiceFrame} service=${service} tab="secrets" fresh=${done}>
    ${done && html`<${Note} tone="ok" role="alert"><b>${done}</b><//>`}
    <p class="muted">Values are sealed for this service. Revealing one needs a reason, and the access log records it first.</p>
    ${!data ? html`<${Loading} read=${read} />` : html`<${Panel} label="Secrets" footer=${sealed.length > 0 && html`Sealed with master key ${sealed.map((k, i) => html`${i > 0 && ', '}<code>${short(k)}</code>`)}. <a href="#/cog/keys">Keys</a>`}>
      <${Table} kind="mid" caption=${`Secrets of ${service}`} empty="The schema of this service has no secrets." columns=${['Secret', 'State', 'Value', 'Last revealed', { label: 'Actions', sr: true, act: true }]} rows=${data.rows.map(row)} /><//>${data.recent.length > 0 && html`<${Recent} list=${data.recent} />`}`}
    ${open && html`<${open.kind} service=${service} secret=${open.secret} close=${close} show=${show} />`}<//>`;
}
