// The rollouts: those that run, and those that ended.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at, withQuery } from '../lib/api.js';
import { count, number } from '../lib/format.js';
import { href } from '../lib/router.js';
import { planText, running, standing, stateOf } from '../lib/rollouts.js';
import { Button, Icon, State, Table, Time, Ver } from '../components/basic.js';
import { useApp, useTitle } from '../components/context.js';
import { useFollowed } from '../components/instances.js';
import { Loading, Panel } from '../components/kit.js';

const page = 50;

const name = (r) => html`<a class="name" href=${href(['rollouts', r.id])}>${r.service}</a><span class="sub mono">${r.id}</span>`;
const started = (r) => html`${r.started_by}, <${Time} at=${r.started_at} /><span class="sub"><bdi>${r.reason}</bdi></span>`;
const versions = (r) => html`<span class="row">${running(r) && html`<${Ver} n=${r.stable} /><${Icon} name="arrow" />`}<${Ver} n=${r.candidate} tone=${running(r) ? 'theirs' : r.state === 'completed' ? '' : 'struck'} /></span>`;

function Now({ list }) {
  const row = (r) => {
    const s = stateOf(r);
    return { key: r.id, cells: [name(r), versions(r), html`<${State} tone=${s.tone} icon=${s.icon}>${standing(r)}<//><span class="sub">${r.paused || planText(r.plan)}</span>`, started(r)] };
  };
  return html`<${Panel} title="Now"><${Table} kind="mid" caption="Rollouts that run" columns=${['Service', 'Version', 'Where it is', 'Started']} rows=${list.map(row)} /><//>`;
}

function Earlier({ list }) {
  const row = (r) => {
    const s = stateOf(r);
    return { key: r.id, cells: [name(r), versions(r), html`<${State} tone=${s.tone} icon=${s.icon}>${s.word}<//><span class="sub"><bdi>${r.outcome}</bdi></span>`, html`${r.ended_at && html`<${Time} at=${r.ended_at} />`}<span class="sub">${r.ended_by}</span>`, started(r)] };
  };
  return html`<${Panel} title="Earlier"><${Table} kind="mid" caption="Rollouts that ended" columns=${['Service', 'Version', 'Outcome', 'Ended', 'Started']} rows=${list.map(row)} /><//>`;
}

export function Rollouts() {
  const { api } = useApp();
  const [most, setMost] = useState(page);
  useTitle('Rollouts');
  const read = useFollowed(() => api.get(withQuery(at`rollouts`, { limit: most })), [most], () => true), { data } = read;
  const list = data?.results ?? [], now = list.filter(running), earlier = list.filter((r) => !running(r));
  const paused = now.filter((r) => r.state === 'paused').length;
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>Rollouts</h1><p>A rollout gives a change to some instances first, and takes it back by itself when one refuses. Start one where you save: choose “One first” or “In tenths”.</p></div></div>
    ${!data ? html`<${Loading} read=${read} />` : list.length === 0 ? html`<section class="panel"><div class="empty"><${Icon} name="steps" /><h2>No rollout yet</h2><p>Edit a service, review the change, and choose how it goes out.</p><p><${Button} href="#/services">Services<//></p></div></section>`
      : html`<p class="muted">${now.length === 0 ? 'None runs now.' : `${count(now.length, 'rollout')} ${now.length === 1 ? 'runs' : 'run'}${paused > 0 ? `, ${paused} paused` : ''}.`}</p>
      ${now.length > 0 && html`<${Now} list=${now} />`}${earlier.length > 0 && html`<${Earlier} list=${earlier} />`}
      ${data.total > list.length && html`<p class="row"><${Button} kind="quiet" onClick=${() => setMost(most * 3)}>Older rollouts<//><span class="muted">${number(list.length)} of ${number(data.total)}</span></p>`}`}</main>`;
}
