// The services: version, age, who changed last and why, and how many agents serve it.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { withQuery } from '../lib/api.js';
import { drafts } from '../lib/draft.js';
import { count, number } from '../lib/format.js';
import { activeOf, standing } from '../lib/rollouts.js';
import { href } from '../lib/router.js';
import { Button, Find, Ghost, Note, Seg, Time, Ver } from '../components/basic.js';
import { mayWrite, useApp, useTitle } from '../components/context.js';
import { Gap, useWindow } from '../components/window.js';
import { Later } from '../components/later.js';

const day = 86400000;
const addFirst = async () => (await import('./add.js')).AddFirst;

/** reach tells how many of the agents that have a service serve its newest version. */
function reach(cluster, service) {
  const nodes = (cluster?.nodes || []).filter((n) => n.services && Object.hasOwn(n.services, service.service));
  if (nodes.length === 0) return null;
  const now = nodes.filter((n) => n.reachable && n.services[service.service] >= service.version).length;
  return { nodes, now, lost: nodes.filter((n) => !n.reachable).length };
}

function Row({ service, why, cluster, draft, rollout }) {
  const state = reach(cluster, service);
  const behind = state && state.now < state.nodes.length;
  return html`<tr role="row"><td role="cell"><a class="name" href=${href(['services', service.service])}>${service.service}</a>${draft && html` <span class="tone info">draft</span>`}${!service.has_schema && html`<span class="sub">no schema</span>`}</td>
    <td role="cell" data-label="Version"><${Ver} n=${service.version} />${rollout && html` <a class="ver theirs" href=${href(['rollouts', rollout.id])} title=${rollout.summary}>v${rollout.candidate}<span class="sr"> in a rollout, ${standing(rollout)}</span></a>`}</td>
    <td role="cell" data-label="Last change"><${Time} at=${service.updated_at} /> by ${service.updated_by}<span class=${`sub clip${why ? '' : ' blank'}`}>${why || '\u00a0'}</span></td>
    <td role="cell" data-label="Agents">${state ? html`${state.nodes.length <= 24 && html`<span class="strip" aria-hidden="true">${state.nodes.map((n) => html`<i class=${!n.reachable ? 'warn' : n.services[service.service] >= service.version ? 'ok' : ''}></i>`)}</span>`}
      <span class=${`sub ${behind ? 'tone warn' : ''}`}>${state.now} of ${state.nodes.length} ${state.now === 1 && state.nodes.length === 1 ? 'serves' : 'serve'} v${service.version}${state.lost > 0 ? `, ${state.lost} lost` : ''}</span>` : html`<span class="sub blank">${'\u00a0'}</span>`}</td></tr>`;
}

export function Services({ shared }) {
  const { api, say, store } = useApp();
  const [filter, setFilter] = useState('');
  const [only, setOnly] = useState('all');
  const [reasons, setReasons] = useState(new Map());
  const kept = useMemo(() => new Set(drafts()), []);
  const list = shared.services;
  const stamp = list ? list.map((s) => s.version).join() : '';
  useTitle('Services');
  useEffect(() => () => store.set({ told: null }), []); // said once
  useEffect(() => {
    if (!list) return undefined;
    let here = true;
    api.get(withQuery('/api/config/history', { limit: 500 }))
      .then(({ results }) => here && setReasons(new Map(results.map((c) => [`${c.service} ${c.version}`, c.change_reason])))).catch(() => {}); // the list is whole without reasons
    return () => { here = false; };
  }, [stamp]);
  const sorted = useMemo(() => [...(list || [])].sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at) || (a.service < b.service ? -1 : 1)), [list]);
  const today = (s) => Date.now() - Date.parse(s.updated_at) < day;
  const attention = (s) => {
    const state = reach(shared.cluster, s);
    return (state !== null && state.now < state.nodes.length) || activeOf(shared.rollouts, s.service)?.state === 'paused';
  };
  const tests = { all: () => true, attention, today, drafts: (s) => kept.has(s.service) };
  const options = [['all', 'All'], ['attention', 'Needs attention'], ['today', 'Changed today'], ['drafts', 'Drafts']]
    .map(([value, label]) => ({ value, n: sorted.filter(tests[value]).length, label })).filter((o) => o.value === 'all' || o.n > 0).map((o) => ({ value: o.value, label: `${o.label} ${number(o.n)}` }));
  const q = filter.trim().toLowerCase();
  const shown = sorted.filter((s) => (tests[only] || tests.all)(s) && (q === '' || `${s.service}\n${s.updated_by}\n${reasons.get(`${s.service} ${s.version}`) || ''}`.toLowerCase().includes(q)));
  const seen = useWindow(shown.length);
  useEffect(() => {
    if (q !== '') say(`${shown.length} of ${sorted.length} shown`);
  }, [q, shown.length]);
  const columns = ['Service', 'Version', 'Last change', 'Agents'];
  const head = html`<div class="head"><div><h1>Services</h1><p>${list ? (list.length === 0 ? 'No services yet.' : count(list.length, 'service')) : '\u00a0'}</p></div>
    ${list?.length !== 0 && html`<div class="row"><${Button} icon="plus" href="#/add">Add a service</${Button}></div>`}</div>`;
  const note = shared.told && html`<${Note} tone="ok" role="status" onClose=${() => store.set({ told: null })} acts=${shared.told.href && html`<${Button} kind="tiny" icon="undo" href=${shared.told.href}>Restore</${Button}>`}><b>${shared.told.text}</b></${Note}>`;
  if (!list) return html`<main class="page" id="main" tabindex="-1">${head}<${Ghost} rows=${8} /></main>`;
  if (list.length === 0) return html`<${Later} load=${addFirst} head=${html`${head}${note}`} off=${mayWrite(shared)} />`;
  return html`<main class="page" id="main" tabindex="-1">${head}
    ${note}<div class="tools"><${Find} id="fs" label="Filter services" value=${filter} onInput=${setFilter} />${options.length > 1 && html`<${Seg} label="Show" value=${only} options=${options} onChange=${setOnly} />`}<span class="push">newest change first</span></div>
    <div class="panel"><table class="table mid" role="table" aria-rowcount=${shown.length + 1}><caption class="sr">Services, newest change first</caption>
      <thead role="rowgroup"><tr role="row">${columns.map((c) => html`<th role="columnheader" scope="col">${c}</th>`)}</tr></thead>
      <tbody role="rowgroup" ref=${seen.ref}><${Gap} height=${seen.before} columns=${4} />
        ${shown.slice(seen.from, seen.to).map((s) => html`<${Row} key=${s.service} service=${s} why=${reasons.get(`${s.service} ${s.version}`)} cluster=${shared.cluster} draft=${kept.has(s.service)} rollout=${activeOf(shared.rollouts, s.service)} />`)}
        <${Gap} height=${seen.after} columns=${4} /></tbody></table></div>
    ${shown.length === 0 && html`<p class="muted">No service matches “${filter}”.</p>`}</main>`;
}
