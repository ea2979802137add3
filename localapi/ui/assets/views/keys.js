// The four keys of the cluster: which is in use, where a rotation stands, and its start.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Dialog, Icon, Note, State, Table } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Choice, Loading, Menu, Panel, Refused, useName, usePage, useWork } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { at, withQuery } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { keyRows, short, steps } from '../lib/cog.js';

const EFFECTS = {
  rotate: 'The members get a new key first, then it is used, then what the old one sealed or signed is renewed. Services notice nothing.',
  prepare: 'The members get a new key, which is not used until it is rotated: clients that keep public keys learn it in time.',
  abort: 'The new key is given up. The one in use stays.',
  retire: 'The old key ends now. A member that has not heard of the new one since then must join again.',
};
const SAID = { rotate: (kind, key, phase) => (phase === 'handover' ? `The rotation of ${kind} has begun: ${key} comes next.` : `${kind} was rotated: ${key} is in use.`),
  prepare: (kind, key) => `${key} is handed out for ${kind}, and used when you rotate it.`,
  abort: (kind, key) => `The rotation of ${kind} was aborted: ${key} is given up.`, retire: (kind) => `The old key of ${kind} has ended.` };
const TITLES = { rotate: 'Rotate', prepare: 'Prepare', abort: 'Abort the rotation of', retire: 'End the old key of' };

function Change({ kind, verb, close }) {
  const { api } = usePage(), id = useName(), work = useWork();
  const [reason, setReason] = useState('');
  const go = () => work.run(async () => {
    const out = await api.post(withQuery(at`keys/${kind}/${verb}`, { reason }));
    close(SAID[verb](kind, short(out.key_id), out.phase));
  });
  return html`<${Dialog} slim title=${`${TITLES[verb]} ${kind}`} onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} kind=${verb === 'rotate' || verb === 'prepare' ? 'primary' : 'danger'} icon="key">${`${TITLES[verb]} ${kind}`}<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>${EFFECTS[verb]}</p><label class="label-top" for=${id}>Reason</label><input id=${id} data-first placeholder="a year is over" value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} /></div><//>`;
}

const done = (yes) => (yes ? html`<${State} tone="ok" icon="check"><span class="sr">yes</span><//>` : html`<span class="muted">no</span>`);

function Rotation({ r, members }) {
  const holders = members.filter((m) => m.holds[r.kind]);
  const row = (m) => {
    const held = m.holds[r.kind];
    return { key: m.node_id, cells: [html`<code>${m.node_id}</code>`, done(held.key_ids.includes(r.old_key_id)),
      held.key_ids.includes(r.key_id) ? done(true) : html`<span class="muted">${m.reachable ? held.err || 'not yet' : 'when it is back'}</span>`] };
  };
  return html`<div class="split even"><div><${Panel} title=${`Rotation of ${r.kind}`}><div class="pad"><ol class="steps">${steps(r).map((s, i) => html`<li key=${s.title} class=${s.mark}><span class="mark">${s.mark === 'ok' ? html`<${Icon} name="check" />` : i + 1}</span><h3>${s.title}</h3><p class=${s.mark === 'theirs' ? '' : 'muted'}>${s.text}</p></li>`)}</ol></div><//></div>
    <div><${Panel} title="Who holds it"><${Table} kind="mid" caption=${`Who holds the keys of ${r.kind}`} columns=${['Agent', 'Old', 'New']} rows=${holders.map(row)} /><//></div></div>`;
}

export function Keys() {
  const { api, change } = usePage();
  const read = useData(() => api.get(at`keys`), []), { data, reload } = read;
  const [open, setOpen] = useState(null), [said, setSaid] = useState('');
  const busy = data?.rotations.some((r) => r.phase !== 'grace' && r.phase !== 'prepared');
  useEffect(() => (busy ? clock.after(1500, reload) : undefined), [busy, data]);
  const close = (text) => {
    setOpen(null);
    if (text) setSaid(text);
    if (text) reload();
  };
  const row = (k) => {
    const choose = (verb) => () => setOpen({ kind: k.kind, verb });
    return { key: k.kind, cells: [html`<span class="strong">${k.kind}</span><span class="sub">${k.use}</span>`, html`<code>${k.id || '…'}</code>${k.other && html`<span class="sub">${k.other}</span>`}`,
      html`<${State} tone=${k.tone} icon=${k.rotation ? 'steps' : 'check'}>${k.state}<//>${k.sub && html`<span class="sub">${k.sub}</span>`}`, html`${k.since}${k.by && ` by ${k.by}`}`,
      html`<span class="row"><${Button} kind="tiny" icon="key" label=${k.kind} off=${change || k.why.rotate} onClick=${choose('rotate')}>Rotate<//>
      <${Menu} label=${`More of ${k.kind}`} items=${['prepare', 'abort', 'retire'].map((verb) => ({ label: `${TITLES[verb]} ${k.kind}`, off: change || k.why[verb], danger: verb !== 'prepare', onClick: choose(verb) }))} /></span>`] };
  };
  return html`<${CogFrame} tab="keys" sentence="Four keys, each rotated while the cluster runs.">
    ${said && html`<${Note} tone="ok" role="status"><b>${said}</b><//>`}
    ${!data ? html`<${Loading} read=${read} />` : html`<div class="panel"><${Table} kind="mid" caption="Keys" columns=${['Key', 'Now', 'State', 'Since', { label: 'Actions', sr: true, act: true }]} rows=${keyRows(data, clock.now()).map(row)} /></div>
    ${data.rotations.map((r) => html`<${Rotation} key=${r.kind} r=${r} members=${data.members} />`)}`}
    ${open && html`<${Change} ...${open} close=${close} />`}<//>`;
}
