// One rollout: its steps, what each instance makes of the candidate, and what a person may do.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at, withQuery } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { changes } from '../lib/diff.js';
import { quoted } from '../lib/format.js';
import { href } from '../lib/router.js';
import { healthOf, labelsOf } from '../lib/instances.js';
import { actionsOf, bakeText, minutes, planText, running, seconds, share, standing, stateOf, steps, verdictOf } from '../lib/rollouts.js';
import { Button, Chip, Icon, Note, State, Table, Time, Ver } from '../components/basic.js';
import { useData, useTitle } from '../components/context.js';
import { Stale, Strip, useFollowed } from '../components/instances.js';
import { Loading, Panel, Refused, usePage, useWork } from '../components/kit.js';
import { Change } from '../components/value.js';
import { Decide } from './rolloutdialogs.js';

// Bake is the rest of the time of a step. The leader tells it with each answer; in between it counts here.
function Bake({ r, readAt }) {
  const [, tick] = useState(0);
  useEffect(() => clock.after(1000, () => tick((n) => n + 1)));
  const all = seconds(r.steps[r.step - 1].bake), left = Math.max(0, r.bake_remaining - (clock.now() - readAt) / 1000);
  return html`<div class="row"><svg class="meter theirs" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label=${`${Math.round(all - left)} of ${Math.round(all)} seconds`}><rect width=${all > 0 ? Math.round((100 * (all - left)) / all) : 100} height="4" /></svg>
    <span class="muted">${r.phase === 'final' ? 'final bake' : 'baking'}, ${minutes(left)} of ${minutes(all)} left</span></div>`;
}

function Steps({ r, readAt }) {
  return html`<${Panel} title="Steps"><div class="pad"><ol class="steps">${steps(r).map((s, i) => html`<li key=${i} class=${s.mark} aria-current=${s.now ? 'step' : undefined}><span class="mark">${s.mark === 'ok' ? html`<${Icon} name="check" />` : s.mark === 'bad' ? html`<${Icon} name="x" />` : i + 1}</span>
    <h3>${s.title}</h3><p class=${s.now || s.mark === 'bad' ? '' : 'muted'}>${s.text}</p>
    ${s.now && r.state === 'running' && ['baking', 'final'].includes(r.phase) && html`<${Bake} r=${r} readAt=${readAt} />`}</li>`)}</ol></div><//>`;
}

function Rules({ r }) {
  const p = r.plan, n = (x) => x ?? 0;
  return html`<${Panel} title="If something goes wrong"><div class="pad"><ul class="stack">
    <li><b>${n(p.max_rejected) > 0 ? `More than ${p.max_rejected} instances refuse` : 'An instance refuses'}, or ${n(p.max_unhealthy) > 0 ? `more than ${p.max_unhealthy} turn` : 'turns'} unhealthy:</b> everyone gets v${r.revert}. The agent of who refuses goes back first, by itself, without leader or network.</li>
    <li><b>An instance is silent${p.deadline ? ` for ${bakeText(p.deadline)}` : ''}:</b> ${p.on_lost === 'continue' ? 'a lost one is passed over, one that does not answer pauses the rollout.' : 'the rollout pauses.'} Silence never promotes.</li>
    <li><b>Someone saves another change:</b> it is refused until this ends, unless it replaces it.</li></ul></div><//>`;
}

function List({ r }) {
  const tone = (i) => verdictOf(i).tone === 'bad' ? 'bad' : i.verdict === 'lost' || i.status === 'lost' ? 'warn' : i.version === r.candidate ? (r.state === 'completed' ? 'ok' : 'theirs') : '';
  const row = (i) => {
    const v = verdictOf(i), h = healthOf(i, r.started_at);
    return { key: `${i.kind} ${i.node} ${i.instance}`, cells: [html`<a class="name" href=${href(['services', r.service, 'instances'])}>${i.instance}</a>`, labelsOf(i) || html`<span class="muted">none</span>`,
      html`<${Ver} n=${i.version} tone=${i.version === r.candidate && running(r) ? 'theirs' : ''} />`,
      v.icon ? html`<${State} tone=${v.tone} icon=${v.icon}>${v.word}<//>${i.reason && html`<span class="sub tone bad"><bdi>“${i.reason}”</bdi></span>`}` : html`<span class="muted">${v.word}</span>`,
      h.icon ? html`<${State} tone=${h.tone} icon=${h.icon}>${h.word}<//>` : html`<span class="muted">${h.word}</span>`, i.since ? html`<${Time} at=${i.since} />` : ''] };
  };
  const sorted = [...r.instances].sort((a, b) => Number(b.target) - Number(a.target));
  return html`<${Panel} title="Instances" side=${html`<span class="push"><${Strip} tones=${sorted.map(tone)} /></span>`} footer=${sorted.length > 200 && `The first 200 of ${sorted.length}; the others are in the list of the service.`}>
    ${sorted.length === 0 ? html`<p class="pad muted">${r.complete ? 'No instance is known.' : 'Not known here.'}</p>` : html`<${Table} kind="mid" caption="Instances in the rollout" columns=${['Instance', 'Labels', 'Runs', 'Verdict', 'Health', 'Since']} rows=${sorted.slice(0, 200).map(row)} />`}<//>`;
}

// changesOf is what the candidate changes: beside the stable values while it runs, and of one that was promoted, as
// the history has it. Of one that was given up only the reason is kept.
async function changesOf(api, r) {
  const row = (c) => ({ key: c.key, old_value: c.old, new_value: c.new });
  if (r.values) return changes((await api.get(withQuery(at`services/${r.service}`, { values: 'stored' }))).config, r.values).map(row);
  const { results } = await api.get(withQuery(at`history`, { service: r.service, limit: 500 }));
  return results.filter((c) => c.version === r.candidate && c.action === 'rollout');
}

function Changes({ r }) {
  const { api } = usePage();
  const { data } = useData(() => changesOf(api, r).catch(() => []), [r.id, r.state, r.stable]);
  if (!data || data.length === 0) return null;
  return html`<${Panel} title=${`What v${r.candidate} changes`}>${data.map((c) => html`<${Change} key=${c.key} name=${c.key} from=${c.old_value === undefined ? 'default' : c.old_value} to=${c.new_value === undefined ? 'default' : c.new_value} secret=${c.new_value === '********'} />`)}<//>`;
}

function Facts({ r }) {
  const s = share(r), of = (k) => `${k} of ${s.all} ${k === 1 ? 'runs' : 'run'} it`;
  if (!running(r)) return null;
  return html`<div class="stats"><div><span class="muted">Stable</span><div class="row"><${Ver} n=${r.stable} /><span>${of(s.stable)}</span></div></div>
    <div class="theirs"><span class="muted">Candidate</span><div class="row"><${Ver} n=${r.candidate} tone="theirs" /><span>${of(s.candidate)}</span></div></div>
    <div><span class="muted">Revert, signed in advance</span><div class="row"><${Ver} n=${r.revert} /><span>${s.revert > 0 ? of(s.revert) : `the values of v${r.stable}`}</span></div></div></div>`;
}

const outcome = { completed: ['ok', (r) => `Completed: v${r.candidate} is stable.`], rolled_back: ['bad', (r) => `Rolled back: v${r.revert} for all, with the values of before.`], superseded: ['warn', (r) => `v${r.candidate} was given up.`] };

function Outcome({ r }) {
  if (r.state === 'paused') return html`<${Note} tone="warn" icon="pause"><b>Paused.</b> <bdi>${r.paused}</bdi>. Resume goes on where it stopped; nothing is taken back meanwhile.<//>`;
  if (running(r)) return null;
  const [tone, title] = outcome[r.state] ?? ['info', () => `It has ended: ${r.state}.`];
  return html`<${Note} tone=${tone}><b>${title(r)}</b> <bdi>${r.outcome}</bdi>${r.ended_at && html` <span class="muted"><${Time} at=${r.ended_at} />${r.ended_by && ` by ${r.ended_by}`}</span>`}<//>`;
}

function Body({ r, readAt, reload }) {
  const { api, change, say } = usePage(), work = useWork(), where = stateOf(r), now = standing(r), was = useRef(now);
  useEffect(() => { // for who does not see it
    if (was.current !== now) say(`v${r.candidate}: ${now}`);
    was.current = now;
  }, [now]);
  const [open, setOpen] = useState('');
  const off = actionsOf(r, change);
  const resume = () => work.run(async () => {
    await api.post(at`rollouts/${r.id}/resume`, {});
    say('Resumed');
    await reload();
  });
  const close = async (text) => {
    setOpen('');
    if (!text) return;
    say(text);
    await reload();
  };
  const acts = running(r) && html`<div class="row"><${Button} kind="danger" icon="x" off=${off.abort} onClick=${() => setOpen('abort')}>Abort<//>
    ${r.state === 'paused' ? html`<${Button} icon="play" off=${off.resume} onClick=${resume}>Resume<//>` : html`<${Button} icon="pause" off=${off.pause} onClick=${() => setOpen('pause')}>Pause<//>`}
    <${Button} kind="primary" icon="check" off=${off.promote} onClick=${() => setOpen('promote')}>Promote now<//></div>`;
  return html`<div class="head"><div><h1><a class="name" href=${href(['services', r.service])}>${r.service}</a> ${running(r) && html`<${Ver} n=${r.stable} /><span class="muted"><${Icon} name="arrow" /></span>`}<${Ver} n=${r.candidate} tone=${running(r) ? 'theirs' : r.state === 'completed' ? '' : 'struck'} /> <${Chip} tone=${where.tone} icon=${where.icon}>${now}<//></h1>
      <p>Started <${Time} at=${r.started_at} /> by ${r.started_by}${r.reason && html`: <bdi>${quoted(r.reason)}</bdi>`}. ${r.plan.preset ? `Preset ${r.plan.preset}: ` : ''}${planText(r.plan)}.</p></div>${acts}</div>
    <${Refused} error=${work.error} /><${Outcome} r=${r} />
    ${running(r) && off.promote && !change && html`<${Note} tone="info" icon="lock">Promote is off: ${off.promote}.<//>`}
    ${running(r) && change && html`<${Note} tone="info" icon="lock"><b>You can look, not decide.</b> ${change}<//>`}
    ${!r.complete && html`<${Note} tone="warn"><b>The verdicts are not all known here.</b> ${r.why}<//>`}
    <${Facts} r=${r} />
    <div class="split left"><div><${Steps} r=${r} readAt=${readAt} />${running(r) && html`<${Rules} r=${r} />`}</div>
      <div>${(running(r) || r.instances.length > 0) && html`<${List} r=${r} />`}<${Changes} r=${r} /></div></div>
    ${open && html`<${Decide} r=${r} verb=${open} close=${close} />`}`;
}

export function Rollout({ id }) {
  const { api } = usePage();
  useTitle(`Rollout ${id}`);
  const read = useFollowed(async () => ({ r: await api.get(at`rollouts/${id}`), readAt: clock.now() }), [id], (e) => e.service === undefined || id.startsWith(`${e.service}-`));
  return html`<main class="page" id="main" tabindex="-1"><${Stale} read=${read} />${read.data ? html`<${Body} ...${read.data} reload=${read.reload} />` : html`<div class="head"><div><h1>Rollout</h1><p class="mono">${id}</p></div></div><${Loading} read=${read} />`}</main>`;
}
