// What the instances of a service say, as a view follows it, and the panel beside its values.
import { useEffect, useRef } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at, withQuery } from '../lib/api.js';
import { href } from '../lib/router.js';
import { refuses, statusOf, toneOf } from '../lib/instances.js';
import { Note, State } from './basic.js';
import { useApp, useData, useLive, useShared } from './context.js';

const pause = 300; // between two reads, however many report at once
const poll = 5000; // where no stream tells

/** useFollowed reads again what an event says has changed, now and then without one, and never twice at a time. */
export function useFollowed(read, deps, concerns) {
  const { outage } = useShared();
  const got = useData(read, deps), turn = useRef({ busy: false, again: false });
  const reload = async () => {
    if (turn.current.busy) {
      turn.current.again = true;
      return;
    }
    turn.current = { busy: true, again: false };
    await got.reload();
    setTimeout(() => {
      const { again } = turn.current;
      turn.current = { busy: false, again: false };
      if (again) reload();
    }, pause);
  };
  const heard = (event) => concerns(event ?? {}) && reload();
  for (const kind of ['instances', 'rollout', 'service', 'again']) useLive(kind, heard, deps);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), poll);
    return () => clearInterval(timer);
  }, deps);
  useEffect(() => {
    if (got.data || got.error) reload(); // an outage has begun, or is over
  }, [outage]);
  return { ...got, reload };
}

/** useInstances follows the instances of a service; null where the cluster does not know them. `keys` also asks who reads which key. */
export function useInstances(name, keys) {
  const { api } = useApp();
  const absent = (error) => {
    if (error.status === 404 || error.code === 'unsupported') return null; // a leader of an older build
    throw error;
  };
  return useFollowed(() => api.get(withQuery(at`services/${name}/instances`, { keys: keys && 1 })).catch(absent), [name], (e) => e.service === undefined || e.service === name);
}

/** Stale says that what is shown could not be read again, and why. */
export function Stale({ read }) {
  if (!read.data || !read.error) return null;
  return html`<${Note} tone="warn"><b>This could not be read again.</b> ${read.error.message}. What is shown is from before.<//>`;
}

/** Strip is a mark for each instance; up to 24, then the sentence beside it says it alone. */
export function Strip({ tones }) {
  if (tones.length === 0 || tones.length > 24) return null;
  return html`<span class="strip" aria-hidden="true">${tones.map((tone) => html`<i class=${tone}></i>`)}</span>`;
}

/** WhoRuns is the panel beside the values of a service. */
export function WhoRuns({ name, data }) {
  if (!data || (data.instances.length === 0 && data.complete)) return null;
  const order = (i) => (refuses(i) ? 0 : i.status === 'lost' ? 1 : 2);
  const shown = [...data.instances].sort((a, b) => order(a) - order(b)).slice(0, 6);
  return html`<section class="panel"><header><h2>Who runs it</h2><span class="push"><${Strip} tones=${data.instances.map((i) => toneOf(i, data))} /></span></header>
    <div class="pad stack">${!data.complete && html`<p class="muted">Not complete: ${data.why || 'not all instances have reported'}.</p>`}
    ${shown.length > 0 && html`<ul class="stack">${shown.map((i) => {
      const s = statusOf(i, data);
      return html`<li key=${`${i.kind} ${i.node} ${i.instance}`}><div class="row"><${State} tone=${s.tone} icon=${s.icon}><b>${i.instance}</b><//><span class="muted push">${refuses(i) ? s.word : `v${i.version}, ${s.word}`}</span></div>${refuses(i) > 0 && html`<p class="tone bad"><bdi>${s.sub}</bdi>${i.version === refuses(i) ? '' : `, runs v${i.version}`}</p>`}</li>`;
    })}</ul>`}</div>
    <footer><a href=${href(['services', name, 'instances'])}>${data.summary || 'All instances'}</a></footer></section>`;
}
