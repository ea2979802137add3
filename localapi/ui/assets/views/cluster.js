// The members of the cluster, who leads, how far each is, and the command by which one joins.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Cmd, Note, State, Table, Time } from '../components/basic.js';
import { useData, useLive } from '../components/context.js';
import { Loading, Menu, Panel, useFresh, usePage } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { Act, Join, RevokeJoin, Transfer } from './clusterdialogs.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { actions, behind, builds, ends, isServer, standing, state, usable, uses } from '../lib/cluster.js';
import { number } from '../lib/format.js';
import { until } from '../lib/when.js';

async function load(api) {
  const status = await api.get(at`cluster`);
  // Without a leader the list of tokens may be missing; the members are still shown.
  const tokens = await api.get(at`cluster/tokens`).then((t) => t.tokens, () => null);
  return { status, tokens };
}

const toned = ({ text, tone }) => html`<span class=${tone ? `tone ${tone}` : undefined}>${text}</span>`;

function Facts({ status }) {
  const leader = status.nodes.find((n) => n.node_id === status.leader);
  const servers = status.nodes.filter(isServer);
  const level = servers.filter((n) => n.reachable && n.lag_entries === 0).length;
  const services = leader?.services ? Object.keys(leader.services).length : null;
  return html`<div class="stats"><div><span class="muted">Leader</span><div class="strong">${status.leader || 'none known'}</div><span class="muted">term ${status.term}</span></div>
    <div><span class="muted">Log</span><div class="strong">index ${number(status.index)}</div><span class="muted">applied on ${level} of ${servers.length} ${servers.length === 1 ? 'server' : 'servers'}</span></div>
    <div><span class="muted">Epoch</span><div class="strong mono" title=${status.config_epoch}>${status.config_epoch.slice(0, 8)}</div></div>
    <div><span class="muted">Cluster</span><div class="strong mono" title=${status.cluster_id}>${status.cluster_id.slice(0, 8)}</div><span class="muted">${status.nodes.length} ${status.nodes.length === 1 ? 'agent' : 'agents'}${services !== null && `, ${services} services`}</span></div></div>`;
}

// Observers report to nobody: the page says so, instead of a table that is always empty.
function Observers() {
  return html`<${Panel} title="Observers" side=${html`<span class="muted push">no members, not counted above</span>`}><div class="pad stack">
    <p>An observer follows the signed updates of its services at an MQTT broker and joins no cluster, so this agent does not know how many there are. Each one tells its own age and what it refused: <code>/healthz</code> and <code>/metrics</code> at its local address.</p>
    <${Cmd} text="holdfast agent --role observer --mqtt mqtts://BROKER:8883 --trust cluster-keys.json --service NAME" /></div><//>`;
}

export function Cluster() {
  const { api, change, refresh } = usePage();
  const read = useData(() => load(api), []), { data, reload } = read;
  const [open, setOpen] = useState(null), [done, setDone] = useState('');
  useLive('cluster', reload, [reload]);
  useFresh(reload);
  useLive('again', reload, [reload]);
  const now = clock.now(), status = data?.status;
  const close = (text) => {
    setOpen(null);
    if (text) setDone(text);
    reload();
    refresh?.();
  };
  const member = (n) => {
    const s = state(n);
    return { key: n.node_id, cells: [
      html`<span class="strong mono">${n.node_id}</span><span class="sub">${n.addr}</span>`,
      html`${n.role || 'server'}${n.service && html`<span class="sub">${n.service}</span>`}`,
      html`<${State} tone=${s.tone} icon=${s.icon}>${s.word}<//>${s.sub && html`<span class="sub">${s.sub}</span>`}`,
      toned(behind(n)), html`<span title=${n.certificate_expires}>${toned(ends(n.certificate_expires, now))}</span>`, n.version || html`<span class="muted">not known</span>`,
      html`<${Menu} label=${`More of ${n.node_id}`} items=${actions(n, status).map((a) => ({ label: a.label, off: change || a.why, danger: a.verb === 'remove', onClick: () => setOpen({ kind: Act, node: n, action: a }) }))} />`] };
  };
  const token = (t) => {
    const u = usable(t, now);
    return { key: t.id, cells: [html`<code>${t.id}</code>`, t.role, t.service || html`<span class="muted">any</span>`, uses(t),
      t.revoked ? html`<${State} tone="bad" icon="x">revoked<//>` : html`<span title=${t.expires_at}>${until(t.expires_at, now)}</span>${u.text === 'used up' && html`<span class="sub">used up</span>`}`,
      html`${t.created_by}<span class="sub"><${Time} at=${t.created_at} /></span>`,
      !t.revoked && html`<${Button} kind="quiet tiny danger" label=${t.id} off=${change} onClick=${() => setOpen({ kind: RevokeJoin, token: t })}>Revoke<//>`] };
  };
  const voters = status?.nodes.filter((n) => n.state === 'voter' && n.reachable) ?? [];
  const acts = html`<${Button} icon="arrow" off=${change || (voters.length === 0 ? 'There is no other voter that answers' : '')} onClick=${() => setOpen({ kind: Transfer })}>Transfer leadership<//>
    <${Button} kind="primary" icon="plus" off=${change} onClick=${() => setOpen({ kind: Join })}>Add an agent<//>`;
  return html`<${CogFrame} tab="cluster" sentence=${status ? standing(status).text : ''} acts=${acts}>
    ${done && html`<${Note} tone="ok" role="status"><b>${done}</b><//>`}
    ${!data ? html`<${Loading} read=${read} />` : html`<${Facts} status=${status} />
    <${Panel} label="Members" footer=${builds(status.nodes)}><${Table} kind="mid" caption="Members" rows=${status.nodes.map(member)}
      columns=${['Agent', 'Role', 'State', 'Behind', 'Certificate', 'Build', { label: 'Actions', sr: true, act: true }]} /><//>
    <${Observers} />
    <${Panel} title="Join tokens" side=${html`<span class="muted push">secrets are shown once, at creation</span>`}>
      ${data.tokens === null ? html`<p class="pad muted">The list is not available now.</p>` : data.tokens.length === 0 ? html`<p class="pad muted">None. “Add an agent” makes one.</p>`
        : html`<${Table} kind="mid" caption="Join tokens" rows=${data.tokens.map(token)} columns=${['Token', 'Role', 'Service', 'Uses', 'Expires', 'By', { label: 'Actions', sr: true, act: true }]} />`}<//>`}
    ${open && html`<${open.kind} ...${open} status=${status} services=${(status?.nodes.find((n) => n.services)?.services) ?? {}} close=${close} />`}<//>`;
}
