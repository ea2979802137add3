// The instances of a service: which version each runs, what it says of it, and who reads which key.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { at } from '../lib/api.js';
import { ago, clock, count, span } from '../lib/format.js';
import { healthOf, hostOf, labelsOf, lastOf, refuses, statusOf, toneOf, usesOf } from '../lib/instances.js';
import { Button, Chip, Find, Icon, Note, State, Table, Time, Ver } from '../components/basic.js';
import { useApp, useData, useTitle } from '../components/context.js';
import { ServiceFrame } from '../components/frame.js';
import { Stale, Strip, useInstances } from '../components/instances.js';
import { Loading, Panel, usePage } from '../components/kit.js';
import { Gap, useWindow } from '../components/window.js';

const many = 12; // more than that can be filtered
const columns = ['Instance', 'Labels', 'Runs', 'Status', 'Health', 'Since', 'Last report'];

function Row({ i, data, savedAt }) {
  const s = statusOf(i, data, savedAt), h = healthOf(i, savedAt), host = hostOf(i), no = refuses(i);
  return html`<tr role="row" id=${`i-${i.instance}`}><td role="cell"><span class="name strong">${i.instance}</span><span class="sub">${host}</span></td>
    <td role="cell" data-label="Labels">${labelsOf(i) || html`<span class="muted">none</span>`}</td>
    <td role="cell" data-label="Runs"><${Ver} n=${i.version} tone=${i.candidate ? 'theirs' : ''} />${no > 0 && no !== i.version && html` <${Ver} n=${no} tone="struck" />`}</td>
    <td role="cell" data-label="Status"><${State} tone=${s.tone} icon=${s.icon}>${s.word}<//>${s.sub && html`<span class=${`sub${no ? ' tone bad' : ''}`}><bdi>${s.sub}</bdi></span>`}</td>
    <td role="cell" data-label="Health">${h.icon ? html`<${State} tone=${h.tone} icon=${h.icon}>${h.word}<//>` : html`<span class="muted">${h.word}</span>`}${h.sub && html`<span class="sub">${h.sub}</span>`}</td>
    <td role="cell" data-label="Since">${i.since ? html`<${Time} at=${i.since} />` : ''}</td><td role="cell" data-label="Last report">${i.age < 1 ? 'just now' : `${span(i.age)} ago`}</td></tr>`;
}

function List({ data, savedAt }) {
  const { say } = useApp();
  const [filter, setFilter] = useState(''), q = filter.trim().toLowerCase();
  const of = (i) => `${i.instance}\n${hostOf(i)}\n${labelsOf(i)}\nv${i.version}\n${statusOf(i, data).word}\n${i.reason ?? ''}`.toLowerCase();
  const shown = q === '' ? data.instances : data.instances.filter((i) => of(i).includes(q));
  const seen = useWindow(shown.length);
  useEffect(() => {
    if (q !== '') say(`${shown.length} of ${data.instances.length} shown`);
  }, [q, shown.length]);
  return html`${data.instances.length > many && html`<div class="tools"><${Find} id="fi" label="Filter instances" value=${filter} onInput=${setFilter} /><span class="push">${shown.length} of ${data.instances.length}</span></div>`}
    <${Panel} label="Instances" footer="An agent reports on every change and every 30 s. After 90 s of silence its instance counts as lost.">
      <table class="table mid" role="table" aria-rowcount=${shown.length + 1}><caption class="sr">Instances of ${data.service}</caption>
      <thead role="rowgroup"><tr role="row">${columns.map((c) => html`<th role="columnheader" scope="col">${c}</th>`)}</tr></thead>
      <tbody role="rowgroup" ref=${seen.ref}><${Gap} height=${seen.before} columns=${columns.length} />
        ${shown.slice(seen.from, seen.to).map((i) => html`<${Row} key=${`${i.kind} ${i.node} ${i.instance}`} i=${i} data=${data} savedAt=${savedAt} />`)}
        <${Gap} height=${seen.after} columns=${columns.length} /></tbody></table>${shown.length === 0 && html`<p class="pad muted">No instance matches “${filter}”.</p>`}<//>`;
}

// Words is what an instance that refuses says itself.
function Words({ i, service }) {
  const no = refuses(i);
  return html`<${Panel} title=${`${i.instance}, in its own words`} side=${html`<${Chip} tone="bad">refused v${no}<//>`}><div class="pad"><dl class="facts">
    <dt>Said</dt><dd><bdi>${i.reason ? `“${i.reason}”` : 'nothing'}</bdi>${i.worker && `, by worker ${i.worker}`}${i.since && ` at ${clock(i.since)}`}</dd>
    ${(i.details ?? []).slice(0, 20).map((d) => html`<dt>About</dt><dd><code>${d.key}</code>: <bdi>${d.message}</bdi></dd>`)}
    <dt>${i.version === no ? 'Is served' : 'Now runs'}</dt><dd>v${i.version}${i.held_back ? ', until the next version' : ''}</dd></dl>
    <div class="row gap">${no > 1 && html`<${Button} kind="tiny" icon="undo" href=${href(['services', service, 'history'], { from: no - 1, to: no })}>Compare and restore<//>`}</div></div><//>`;
}

function Keys({ data }) {
  const uses = usesOf(data);
  const row = (k) => ({ key: k.key, cells: [k.key ? html`<code>${k.key}</code>` : html`<span class="muted">all values at once</span>`, k.readers === 0 ? html`<${State} tone="warn" icon="warn">nobody<//>` : k.text, k.last_read ? html`<span title=${k.last_read}>${ago(k.last_read)}</span>` : html`<span class="muted">not since this leader knows</span>`] });
  return html`<${Panel} title="Who reads which key" side=${html`<span class="muted push">to find dead keys</span>`} footer="To the hour. A client that asks for all values at once reads all keys."><${Table} kind="mid" caption="Who reads which key" columns=${['Key', 'Read by', 'Last read']} rows=${uses.map(row)} /><//>`;
}

// useSaid tells who does not see the page what has changed since it was opened.
function useSaid(text) {
  const { say } = useApp(), was = useRef(text);
  useEffect(() => {
    if (text && was.current !== text) say(text);
    was.current = text;
  }, [text]);
}

function Body({ data, service }) {
  useSaid(data.summary);
  const { api, shared } = usePage();
  // When the version was saved, and by whom, is in its own document.
  const { data: saved } = useData(async () => (await api.get(at`services/${service}`)).metadata, [service, data.version]);
  const savedAt = saved?.version === data.version ? saved.updated_at : '';
  const no = data.instances.filter((i) => refuses(i) > 0), last = savedAt && lastOf(data, savedAt);
  const active = data.candidate && (shared.rollouts ?? []).find((r) => r.service === service && r.candidate === data.candidate);
  return html`${!data.complete && html`<${Note} tone="warn"><b>This list may not be complete.</b> ${sentence(data.why)}<//>`}
    <section class="panel" aria-label="How it stands"><div class="pad stack"><div class="row"><h2 class="verdict">${data.summary || count(data.instances.length, 'instance')}</h2><span class="push"><${Strip} tones=${data.instances.map((i) => toneOf(i, data))} /></span></div>
      ${savedAt && html`<p class="muted">v${data.version} by ${saved.updated_by} was saved <${Time} at=${savedAt} />.${last ? ` The last instance took it ${last} later.` : ''}</p>`}
      ${data.candidate > 0 && html`<p><${State} tone="theirs" icon="steps">v${data.candidate} goes out in steps<//> <a href=${active ? href(['rollouts', active.id]) : '#/rollouts'}>See the rollout</a></p>`}</div></section>
    ${data.instances.length === 0 ? html`<section class="panel"><div class="empty"><${Icon} name="node" /><h2>No instance has reported</h2><p>An agent is an instance of its <code>CONFIG_SERVICE_NAME</code>, and of each service that acknowledges at it: <code>POST /v1/ack/${service}</code> on its local API.</p></div></section>`
      : html`<${List} data=${data} savedAt=${savedAt} />`}
    ${(no.length > 0 || data.keys?.length > 0) && html`<div class="split even"><div>${no.slice(0, 3).map((i) => html`<${Words} key=${`${i.kind} ${i.node} ${i.instance}`} i=${i} service=${service} />`)}${no.length > 3 && html`<p class="muted">${no.length - 3} more refused; their words are in the list.</p>`}</div>
      <div>${data.keys?.length > 0 && html`<${Keys} data=${data} />`}</div></div>`}`;
}

const sentence = (text) => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}` : 'Not all of them have reported.');

export function Instances({ name: service }) {
  useTitle(`Instances of ${service}`);
  const read = useInstances(service, true);
  return html`<${ServiceFrame} service=${service} tab="instances">
    <${Stale} read=${read} />
    ${read.data ? html`<${Body} data=${read.data} service=${service} />` : read.loading || read.error ? html`<${Loading} read=${read} />` : html`<section class="panel"><div class="empty"><${Icon} name="node" /><h2>No instance is known</h2><p>There is no service ${service}, or the leader runs a build without instances.</p></div></section>`}<//>`;
}
