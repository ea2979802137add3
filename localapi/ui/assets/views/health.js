// Health of the agent that is asked, check by check.
import { html } from '../lib/html.js';
import { Copy, State, Table } from '../components/basic.js';
import { useData, useLive } from '../components/context.js';
import { Loading, Panel, useFresh, usePage } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { checks, verdict } from '../lib/cog.js';
import { stamp } from '../lib/when.js';

async function load(api) {
  const [health, cluster, backup] = await Promise.all([
    api.get(at`health`), api.get(at`cluster`).catch(() => null), api.get(at`backups/status`).catch(() => null)]);
  return { health, cluster, backup };
}

export function Health() {
  const { api } = usePage();
  const read = useData(() => load(api), []), { data, reload } = read;
  useLive('health', reload, [reload]);
  useLive('cluster', reload, [reload]);
  useFresh(reload);
  const now = clock.now();
  const rows = data ? checks(data.health, data.cluster, data.backup, now) : [];
  const events = (data?.cluster?.nodes ?? []).filter((n) => n.event).sort((a, b) => (a.since < b.since ? 1 : -1));
  const row = (c) => ({ key: c.name, cells: [html`<span class="strong">${c.name}</span>`, html`<${State} tone=${c.tone} icon=${c.icon}>${c.state}<//>`,
    html`${c.detail}${c.sub && html`<span class="sub">${c.sub}</span>`}`] });
  return html`<${CogFrame} tab="health" sentence=${data ? verdict(data.health, data.cluster, rows) : ''} acts=${data && html`<${Copy} kind="" text=${JSON.stringify(data.health, null, 2)}>Copy as JSON<//>`}>
    ${!data ? html`<${Loading} read=${read} />` : html`<div class="panel"><${Table} caption="Health of this agent" columns=${['Check', 'State', 'Detail']} rows=${rows.map(row)} /></div>
    ${events.length > 0 && html`<${Panel} title="Last events"><${Table} kind="mid" caption="Last event of each agent" columns=${['When, UTC', 'Agent', 'Event']}
      rows=${events.map((n) => ({ key: n.node_id, cells: [stamp(n.since, now), html`<code>${n.node_id}</code>`, n.event] }))} /><//>`}`}<//>`;
}
