// Profiles: named values of several services. List, comparison, save, activate.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Icon, Note, Seg, State, Table, Time } from '../components/basic.js';
import { useData, useLive, useTitle } from '../components/context.js';
import { Loading, Menu, Panel, usePage } from '../components/kit.js';
import { Activate, Remove, Save } from './profiledialogs.js';
import { defaultsOf, differing, grid, holds, show } from '../lib/profiles.js';
import { at } from '../lib/api.js';

// load asks for the profiles, and for what their services have now.
async function load(api) {
  const { profiles } = await api.get(at`profiles`);
  const { services } = await api.get(at`services`);
  const held = new Set(profiles.flatMap((p) => Object.keys(p.services)));
  const current = {}, defaults = {};
  await Promise.all(services.filter((s) => held.has(s.service)).map(async ({ service, has_schema: has }) => {
    const [doc, schema] = await Promise.all([api.get(at`services/${service}`), has ? api.get(at`schemas/${service}`) : null]);
    current[service] = doc.config;
    defaults[service] = defaultsOf(schema?.fields);
  }));
  return { profiles, services, rows: grid(profiles, current, defaults) };
}

const word = (n) => (n === 0 ? 'same' : `${n} ${n === 1 ? 'differs' : 'differ'}`);

function Cell({ cell }) {
  if (!cell.held) return html`<span class="muted">not in it</span>`;
  return html`${show(cell.value)}${cell.byDefault && html`<span class="sub">default</span>`}`;
}

function Comparison({ profiles, rows }) {
  const [only, setOnly] = useState('Differences');
  const [off, setOff] = useState(() => new Set(profiles.slice(3).map((p) => p.name)));
  const shown = profiles.map((p, i) => [p, i]).filter(([p]) => !off.has(p.name));
  const flip = (name) => setOff((s) => {
    const next = new Set(s);
    if (!next.delete(name)) next.add(name);
    return next;
  });
  const groups = rows.map((g) => ({ ...g, rows: g.rows.filter((r) => (only === 'Differences' ? shown.some(([, i]) => r.cells[i].differs) : r.held)) })).filter((g) => g.rows.length > 0);
  return html`<div class="tools"><h2>Compare</h2>
    <${Seg} label="Rows shown" name="only" options=${['Differences', 'All keys']} value=${only} onChange=${setOnly} />
    <span class="push">Columns</span><span class="seg" role="group" aria-label="Columns">
    ${profiles.map((p) => html`<button type="button" key=${p.name} aria-pressed=${off.has(p.name) ? 'false' : 'true'} onClick=${() => flip(p.name)}>${p.name}</button>`)}</span></div>
  <${Panel} label="Comparison">${groups.length === 0 ? html`<p class="pad muted">${shown.length === 0 ? 'Choose a column.' : 'The values of now are those of these profiles.'}</p>` : html`
    <table class="table compare" role="table"><caption class="sr">Profiles compared with the values of now</caption>
    <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">Key</th><th role="columnheader" scope="col" class="col">Current</th>
    ${shown.map(([p, i]) => html`<th role="columnheader" scope="col" class="col" key=${p.name}><div class="row"><span class="strong">${p.name}</span><span class="push muted">${word(differing(rows, i))}</span></div></th>`)}</tr></thead>
    <tbody role="rowgroup">${groups.map((g) => html`
      <tr role="row" class="set" key=${g.service}><td role="cell" colspan=${2 + shown.length}><a class="name" href=${`#/services/${encodeURIComponent(g.service)}`}>${g.service}</a>${!g.exists && html` <span class="muted">does not exist now</span>`}</td></tr>
      ${g.rows.map((r) => html`<tr role="row" key=${`${g.service} ${r.key}`}><td role="cell">${r.key}</td><td role="cell" class="as" data-label="Current">${show(r.now)}</td>
      ${shown.map(([p, i]) => html`<td role="cell" key=${p.name} data-label=${p.name} class=${r.cells[i].differs ? 'differs' : 'as'}><${Cell} cell=${r.cells[i]} /></td>`)}</tr>`)}`)}
    </tbody></table>`}<//>`;
}

export function Profiles() {
  const { api, change } = usePage();
  useTitle('Profiles');
  const read = useData(() => load(api), []), { data, reload } = read;
  useLive('service', reload, [reload]); // what differs is about the values of now
  const [open, setOpen] = useState(null);
  const [done, setDone] = useState(null);
  const close = (result) => {
    setOpen(null);
    if (result?.text) setDone(result);
    if (result?.text) reload();
  };
  const row = (p, i) => {
    const n = differing(data.rows, i);
    return { key: p.name, cells: [
      html`<span class="name strong">${p.name}</span><span class="sub">${p.description}</span>`, holds(p), html`${p.updated_by}, <${Time} at=${p.updated_at} />`,
      n === 0 ? html`<${State} tone="ok" icon="check">matches current values<//>` : `${n} ${n === 1 ? 'value differs' : 'values differ'}`,
      html`<span class="row">${n > 0 && html`<${Button} kind="tiny" icon="play" label=${p.name} off=${change} onClick=${() => setOpen({ kind: 'activate', profile: p })}>Activate<//>`}
        <${Menu} label=${`More of ${p.name}`} items=${[
          { label: `Save current values over ${p.name}`, off: change, onClick: () => setOpen({ kind: 'save', profile: p }) },
          { label: `Delete ${p.name}`, danger: true, off: change, onClick: () => setOpen({ kind: 'remove', profile: p }) }]} /></span>`] };
  };
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>Profiles</h1><p>A profile is a named set of values for several services. Activating it changes all of them or none.</p></div>
    <div class="row"><${Button} icon="plus" off=${change} onClick=${() => setOpen({ kind: 'save' })}>Save current values<//></div></div>
  ${done && html`<${Note} tone="ok" role="alert"><b>${done.text}</b> ${done.more}<//>`}
  ${!data ? html`<${Loading} read=${read} />` : data.profiles.length === 0 ? html`
    <div class="panel empty"><${Icon} name="layers" /><h2>No profile yet</h2><p>Save the values of now under a name, change some, and come back to them with one click.</p></div>` : html`
    <div class="panel"><${Table} kind="mid" caption="Profiles" columns=${['Profile', 'Holds', 'Saved', 'Difference', { label: 'Actions', sr: true, act: true }]} rows=${data.profiles.map(row)} /></div>
    <${Comparison} profiles=${data.profiles} rows=${data.rows} />`}
  ${open?.kind === 'activate' && html`<${Activate} profile=${open.profile} close=${close} />`}
  ${open?.kind === 'save' && html`<${Save} profile=${open.profile} services=${data?.services ?? []} names=${(data?.profiles ?? []).map((p) => p.name)} close=${close} />`}
  ${open?.kind === 'remove' && html`<${Remove} profile=${open.profile} close=${close} />`}</main>`;
}
