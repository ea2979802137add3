// The versions of a service: who, when, why, old to new; any two compared; one, or a key of it, restored.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { changes } from '../lib/diff.js';
import { ago, clipped, count } from '../lib/format.js';
import { href } from '../lib/router.js';
import { readHistory, readService, readStored, versionsOf, wholeOf } from '../lib/service.js';
import { Button, Chip, Failure, Ghost, Icon, Note, Time } from '../components/basic.js';
import { mayWrite, useApp, useData, useLive, useTitle } from '../components/context.js';
import { RestoreDialog } from '../components/restore.js';
import { EditButton, ServiceHead, ServiceTabs } from '../components/service-head.js';
import { ServiceMenu } from '../components/service-menu.js';
import { Change } from '../components/value.js';

const page = 300;
const actions = { restore: ['undo', 'restored'], rollback: ['undo', 'restored'], schema: ['braces', 'new schema'], delete: ['x', 'deleted'], 'secret-set': ['key', 'secret set'], 'secret-delete': ['key', 'secret removed'], profile: ['layers', 'profile'], import: ['up', 'import'], rollout: ['steps', 'in steps'], 'rollout-rollback': ['undo', 'rolled back', 'bad'] };

function Version({ v, on, chosen, choose, name }) {
  const [icon, word, tone] = actions[v.action] || [];
  const first = v.action === 'schema' && v.version === 1;
  return html`<li class=${on ? 'on' : ''} id=${`v${v.version}`}><div class="row"><button type="button" class="ver" aria-pressed=${String(on)} aria-label=${`Compare v${v.version}`} onClick=${() => choose(v.version)}>v${v.version}</button><span class="strong">${v.by}</span>
      ${chosen && html`<${Chip} tone="info">${chosen}</${Chip}>`}${word && !first && html`<${Chip} icon=${icon} tone=${tone}>${word}</${Chip}>`}<span class="muted push"><${Time} at=${v.at} /></span></div>
    ${v.reason && html`<div>${v.reason}</div>`}
    ${first && html`<div class="mono clip">${count(v.changes.length, 'key')} <span class="muted">none → </span>defaults</div>`}
    ${!first && v.changes.slice(0, 4).map((c) => html`<div class="mono clip" key=${c.key}>${c.key} <span class="muted">${clipped(c.old_value, 60)} → </span>${clipped(c.new_value, 60)}</div>`)}
    ${!first && v.changes.length > 4 && html`<div class="muted">and ${count(v.changes.length - 4, 'more key')}</div>`}</li>`;
}

function Compare({ model, versions, from, to, setPair, onlyKey, off, onRestore }) {
  const { api } = useApp();
  const { data, error, late } = useData(async () => Promise.all([readStored(api, model.name, from), readStored(api, model.name, to)]), [from, to, model.version]);
  const row = (key) => model.rows.find((r) => r.key === key);
  const list = data ? changes(data[0], data[1], wholeOf(model.rows)).filter((c) => onlyKey === '' || c.key === onlyKey) : [];
  const who = (key) => versions.find((v) => v.version > from && v.version <= to && v.keys.includes(key));
  const option = (v, chosen) => html`<option value=${v.version} selected=${v.version === chosen}>v${v.version}, ${v.by}, ${ago(v.at)}</option>`;
  const pick = (id, label, value, set) => html`<label class="sr" for=${id}>${label}</label><select id=${id} onChange=${(e) => set(Number(e.target.value))}>${versions.map((v) => option(v, value))}</select>`;
  const same = model.rows.length - list.length;
  return html`<section class="panel"><header><h2>Compare</h2><span class="row push">${pick('from', 'From', from, (n) => setPair(n, to))}<span class="muted"><${Icon} name="arrow" /></span>${pick('to', 'To', to, (n) => setPair(from, n))}</span></header>
    ${error && html`<${Failure} error=${error} what="These versions could not be compared." />`}${late && html`<${Ghost} />`}
    ${list.map((c) => html`<${Change} key=${c.key} name=${c.key} from=${c.old ?? row(c.key)?.default} to=${c.new ?? row(c.key)?.default} fromNote=${c.old === undefined ? 'default' : ''} toNote=${c.new === undefined ? 'default' : ''}
      about=${who(c.key) ? `v${who(c.key).version} ${who(c.key).by}` : undefined} acts=${html`<${Button} kind="quiet tiny only" icon="undo" off=${off} title=${`Restore this key of v${from}`} label=${`Restore ${c.key} of v${from} only`} onClick=${() => onRestore({ version: from, only: c.key })} />`} />`)}
    ${data && html`<footer>${list.length === 0 ? 'The stored values are the same.' : `${count(list.length, 'key')} ${list.length === 1 ? 'differs' : 'differ'}.`} ${same > 0 && onlyKey === '' ? `${same} ${same === 1 ? 'is' : 'are'} the same. ` : ''}Secrets are not compared.</footer>`}</section>
    ${from !== model.version && html`<section class="panel"><div class="pad head"><div><h3>Back to v${from}?</h3><p>The values of v${from} become v${model.version + 1}, with your reason. History is never rewritten.</p></div>
      <span class="row"><${Button} icon="undo" off=${off} onClick=${() => onRestore({ version: from })}>Restore v${from} as v${model.version + 1}</${Button}></span></div></section>`}`;
}

export function History({ name, route, shared }) {
  const { api, go } = useApp();
  const key = route.query.get('key') || '';
  const [most, setMost] = useState(page);
  const [restore, setRestore] = useState(null);
  const [done, setDone] = useState(null);
  const { data, error, late, reload } = useData(async () => {
    const model = await readService(api, name);
    const history = key === '' && most === page ? model.history : await readHistory(api, name, { key: key || undefined, limit: most });
    return { model, history };
  }, [name, key, most]);
  useTitle(`History of ${name}`);
  useLive('service', (event) => (event.service === name || event.service === undefined) && reload(), [name]);
  useLive('again', reload, [name]);
  if (!data) return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>${name}</h1></div></div><${ServiceTabs} name=${name} at="history" />${error && html`<${Failure} error=${error} retry=${reload} />`}${late && html`<${Ghost} rows=${8} />`}</main>`;
  const { model, history } = data;
  const off = mayWrite(shared);
  const versions = versionsOf(history);
  const exists = (n) => versions.some((v) => v.version === n);
  const asked = (what, otherwise) => (exists(Number(route.query.get(what))) ? Number(route.query.get(what)) : otherwise);
  const to = asked('to', versions[0]?.version);
  const from = asked('from', versions[1]?.version ?? to);
  const setPair = (a, b) => go(href(['services', name, 'history'], { key, from: Math.min(a, b), to: Math.max(a, b) }));
  // A click moves the nearer end: below the pair it is "from", above it "to".
  const choose = (n) => (n > to || Math.abs(n - to) < Math.abs(n - from) ? setPair(from, n) : setPair(n, to));
  return html`<main class="page" id="main" tabindex="-1"><${ServiceHead} model=${model}><${ServiceMenu} model=${model} off=${off} /><${EditButton} name=${name} shared=${shared} primary /></${ServiceHead}><${ServiceTabs} name=${name} at="history" model=${model} />
    ${done && html`<${Note} tone="ok" role="status" onClose=${() => setDone(null)}><b>${done.changed ? `Restored as v${done.version}.` : `Nothing changed: v${done.version} had these values already.`}</b></${Note}>`}
    ${off && html`<${Note} tone="info" icon="lock"><b>You can read, not change.</b> ${off}</${Note}>`}
    ${key !== '' && html`<${Note} tone="info" icon="filter" acts=${html`<${Button} kind="tiny" href=${href(['services', name, 'history'])}>Show all keys</${Button}>`}>Only versions that changed <code>${key}</code>.</${Note}>`}
    ${versions.length === 0 ? html`<section class="panel"><div class="empty"><${Icon} name="clock" /><h2>No version yet</h2><p>The history begins with the first save.</p></div></section>` : html`<div class="split left"><div><section class="panel"><header><h2>Timeline</h2><span class="push muted">choose two to compare</span></header>
      <ol class="timeline">${versions.map((v) => html`<${Version} key=${v.version} name=${name} v=${v} on=${v.version === from || v.version === to} chosen=${v.version === to ? 'to' : v.version === from ? 'from' : ''} choose=${choose} />`)}</ol>
      ${history.length >= most && html`<footer><${Button} kind="quiet" onClick=${() => setMost(most * 3)}>Older versions</${Button}></footer>`}</section></div>
    <div><${Compare} model=${model} versions=${versions} from=${from} to=${to} setPair=${setPair} onlyKey=${key} off=${off} onRestore=${setRestore} /></div></div>`}
    ${restore && html`<${RestoreDialog} model=${model} version=${restore.version} only=${restore.only} off=${off} onClose=${() => setRestore(null)} onDone=${(answer) => { setRestore(null); setDone(answer); reload(); }} />`}</main>`;
}
