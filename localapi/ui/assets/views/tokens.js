// API tokens: who has one, with which role and until when. A new one is shown once.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Cmd, Dialog, Note, State, Table, Time } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Choice, Loading, Panel, Refused, useName, usePage, useWork } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { ending } from '../lib/cog.js';
import { usable } from '../lib/cluster.js';
import { day } from '../lib/when.js';

const ROLES = [['config.read', 'reads everything but secrets'], ['config.write', 'changes values, secrets, tokens']];
const TTLS = [['720h', 'in 30 days'], ['2160h', 'in 90 days'], ['8760h', 'in 1 year']];
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._@+-]{0,62}$/;

function Create({ close }) {
  const { api } = usePage(), id = useName(), work = useWork();
  const [name, setName] = useState(''), [role, setRole] = useState('config.read'), [ttl, setTtl] = useState('2160h');
  const bad = name !== '' && !NAME.test(name) ? 'letters, digits and . _ @ + -, at most 63' : '';
  const off = name === '' ? 'Say for whom or what it is' : bad;
  const go = () => !off && work.run(async () => close(await api.post(at`tokens`, { name, role, ttl })));
  return html`<${Dialog} slim title="New token" onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} icon="key" off=${off}>Create token<//>`}>
    <div class="pad form"><${Refused} error=${work.error} /><div><label class="label-top" for=${`${id}n`}>For whom or what</label>
    <input id=${`${id}n`} data-first placeholder="panel" autocomplete="off" value=${name} aria-invalid=${bad ? 'true' : undefined} aria-describedby=${`${id}e ${id}h`} onInput=${(e) => setName(e.currentTarget.value)} />
    <p class="err" id=${`${id}e`} hidden=${!bad}>${bad}</p><div class="hint" id=${`${id}h`}><span>The name appears in the history and in the access log.</span></div></div>
    <div class="pick" role="radiogroup" aria-label="Role">${ROLES.map(([value, text]) => html`<label key=${value}><input type="radio" name="role" value=${value} checked=${role === value} onChange=${() => setRole(value)} /><span class="strong">${value}</span><span class="muted">${text}</span></label>`)}</div>
    <div><label class="label-top" for=${`${id}t`}>Expires</label><select id=${`${id}t`} value=${ttl} onChange=${(e) => setTtl(e.currentTarget.value)}>${TTLS.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</select></div></div><//>`;
}

function Revoke({ token, close }) {
  const { api } = usePage(), work = useWork();
  const go = () => work.run(async () => {
    await api.del(at`tokens/${token.id}`);
    close({ revoked: token });
  });
  return html`<${Dialog} slim title=${`Revoke the token of ${token.name}`} onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} kind="danger">Revoke the token<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>Whoever uses <code>${token.id}</code> is refused from then on, and sessions that were begun with it end. What it changed stays.</p></div><//>`;
}

export function Tokens() {
  const { api, change, me } = usePage();
  const read = useData(() => api.get(at`tokens`), []), { data, reload } = read;
  // The new token is in this view's state alone: it is gone when the view is left.
  const [made, setMade] = useState(null), [said, setSaid] = useState(''), [open, setOpen] = useState(null);
  const now = clock.now();
  const close = (result) => {
    setOpen(null);
    if (!result) return;
    setMade(result.token ? result : null);
    setSaid(result.revoked ? `Revoked the token of ${result.revoked.name}.` : '');
    reload();
  };
  const row = (t) => {
    const u = usable(t, now), mine = t.id === me?.token_id;
    return { key: t.id, cells: [html`<span class="strong">${t.name}</span><span class="sub mono">${t.id}</span>`, t.role,
      html`<${State} tone=${u.tone} icon=${u.icon}>${u.text}${mine && ', yours'}<//>`, t.revoked ? '' : html`<span title=${t.expires_at}>${ending(t.expires_at, now)}</span>`,
      html`${t.created_by}<span class="sub"><${Time} at=${t.created_at} /></span>`,
      !t.revoked && html`<${Button} kind="quiet tiny danger" label=${t.name} off=${change || (mine ? 'You are signed in with it' : '')} onClick=${() => setOpen({ kind: Revoke, token: t })}>Revoke<//>`] };
  };
  return html`<${CogFrame} tab="tokens" sentence="Give each person and program its own token, with the role it needs and an expiry."
    acts=${html`<${Button} kind="primary" icon="plus" off=${change} onClick=${() => setOpen({ kind: Create })}>New token<//>`}>
    ${said && html`<${Note} tone="ok" role="status"><b>${said}</b><//>`}
    ${made && html`<${Note} tone="ok" icon="key" role="status" acts=${html`<${Button} kind="tiny" icon="check" onClick=${() => setMade(null)}>I saved it<//>`}><p><b>The token of “${made.name}” is shown once.</b> ${made.role}, until ${day(made.expires_at)}.</p><${Cmd} text=${made.token} word="Copy" /><//>`}
    ${!data ? html`<${Loading} read=${read} />` : html`<${Panel} label="API tokens" footer=${html`Others come from <code>CONFIG_API_TOKENS</code> on the servers, for the first start and emergencies. They are not in this list.`}>
      ${data.tokens.length === 0 ? html`<p class="pad muted">None yet. You are signed in with one of <code>CONFIG_API_TOKENS</code>.</p>`
      : html`<${Table} kind="mid" caption="API tokens" columns=${['For', 'Role', 'State', 'Expires', 'Created by', { label: 'Actions', sr: true, act: true }]} rows=${data.tokens.map(row)} />`}<//>`}
    ${open && html`<${open.kind} token=${open.token} close=${close} />`}<//>`;
}
