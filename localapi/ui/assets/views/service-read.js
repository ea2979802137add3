// The values of a service, each with who set it, when and why.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { clock, count, quoted, shown } from '../lib/format.js';
import { readDraft } from '../lib/draft.js';
import { isSet, originOf, since, versionsOf } from '../lib/service.js';
import { Button, Failure, Note, Time, Ver } from '../components/basic.js';
import { mayWrite, useApp } from '../components/context.js';
import { DepthTools, useDepth, visible } from '../components/depth.js';
import { FieldRead } from '../components/field-read.js';
import { RestoreDialog } from '../components/restore.js';
import { EditButton, ServiceHead, ServiceTabs } from '../components/service-head.js';
import { ServiceMenu } from '../components/service-menu.js';
import { useInstances, WhoRuns } from '../components/instances.js';
import { refuses, savedText } from '../lib/instances.js';
import { activeOf, standing, stateOf } from '../lib/rollouts.js';

const keysOf = (list) => [...new Set(list.flatMap((v) => v.keys))];

function News({ model, from, onDismiss }) {
  const list = since(model.history, from);
  if (list.length === 0) return null;
  const [newest] = list;
  const keys = keysOf(list);
  const acts = html`<${Button} kind="tiny" href=${href(['services', model.name, 'history'], { from, to: model.version })}>Show v${newest.version}</${Button}>`;
  return html`<${Note} tone="theirs" role="status" acts=${acts} onClose=${onDismiss}><b>v${newest.version} by ${newest.by}: ${keys.slice(0, 6).join(', ')}${keys.length > 6 ? ` and ${keys.length - 6} more` : ''}.</b> <bdi>${quoted(newest.reason)}</bdi> Shown below.</${Note}>`;
}

// Running says that a rollout of the service runs: what is shown here is stable, not the candidate.
function Running({ rollout }) {
  const s = stateOf(rollout);
  return html`<${Note} tone=${s.tone} icon=${s.icon} acts=${html`<${Button} kind="tiny" href=${href(['rollouts', rollout.id])}>See the rollout</${Button}>`}><b>v${rollout.candidate} goes out in steps: ${standing(rollout)}.</b> Below is v${rollout.stable}, which all others run.</${Note}>`;
}

// Refusals stands above the values as long as an instance says no to the version that is shown.
function Refusals({ name, data, version, before, off, onRestore }) {
  const no = data.instances.filter((i) => refuses(i) === version), [one] = no;
  const acts = html`<${Button} kind="tiny" href=${href(['services', name, 'instances'])}>See ${no.length === 1 ? one.instance : 'them'}</${Button}>${before > 0 && html`<${Button} kind="tiny" icon="undo" off=${off} onClick=${onRestore}>Restore v${before}</${Button}>`}`;
  return html`<${Note} tone="bad" role="alert" acts=${acts}><b>${no.length === 1 ? `${one.instance} refuses v${version}` : `${no.length} instances refuse v${version}`}.</b> <bdi>${no.length === 1 ? quoted(one.reason) : data.summary}</bdi></${Note}>`;
}

function Saved({ saved, data, onDismiss, onUndo, off }) {
  const came = savedText(data, saved.version, saved.at);
  const acts = saved.changed && saved.before > 0 && html`<${Button} kind="tiny" icon="undo" off=${off} title=${`Restores v${saved.before} as v${saved.version + 1}, with your reason`} onClick=${onUndo}>Undo</${Button}>`;
  return html`<${Note} tone="ok" role="status" acts=${acts} onClose=${onDismiss}><b>${saved.changed ? `Saved as v${saved.version} at ${clock(saved.at)}.` : `Nothing changed: v${saved.version} had these values already.`}</b>
    ${came && ` ${came.text}`}${!saved.applied && ' The cluster has it; this agent serves it a moment later.'}</${Note}>`;
}

function DraftNote({ model, outage, editHref, off }) {
  const draft = readDraft(model.name);
  if (!draft) return null;
  const n = draft.json === undefined ? Object.keys(draft.changes).length : 0;
  const acts = html`<${Button} kind="tiny" off=${off} href=${editHref}>Open the draft</${Button}>`;
  return html`<${Note} tone="info" icon="pen" acts=${acts}><b>Your draft${n > 0 ? ` of ${count(n, 'change')}` : ''} is kept</b> in this tab. ${outage ? 'You can keep typing; saving is off for now.' : ''}</${Note}>`;
}

function Recent({ model, said }) {
  const list = versionsOf(model.history).slice(0, 5);
  return html`<aside aria-label="Who runs it, and the last changes"><${WhoRuns} name=${model.name} data=${said} />${list.length > 0 && html`<section class="panel"><header><h2>Last changes</h2><a class="push" href=${href(['services', model.name, 'history'])}>All</a></header>
    <ol class="timeline">${list.map((v) => html`<li key=${v.version}><div class="row"><${Ver} n=${v.version} /><span class="strong">${v.by}</span><span class="muted push"><${Time} at=${v.at} /></span></div>
      ${v.reason && html`<div>${v.reason}</div>`}<div class="mono clip muted">${v.keys.slice(0, 4).join(', ')}${v.keys.length > 4 ? ` and ${v.keys.length - 4} more` : ''}</div></li>`)}</ol></section>`}</aside>`;
}

export function ServiceRead({ model, shared, found, saved, news, onDismiss, onOwn, error }) {
  const { say } = useApp();
  const [depth, setDepth] = useDepth();
  const [filter, setFilter] = useState('');
  const [json, setJSON] = useState(!model.drawable);
  const [undo, setUndo] = useState(0); // the version to restore
  const off = mayWrite(shared);
  const editHref = href(['services', model.name]) + '?edit';
  const set = (row) => isSet(model, row);
  const textOf = (row) => (row.secret ? '' : shown(originOf(model, row).value));
  const rows = visible(model.rows, { depth, filter, textOf, changed: set, found });
  useEffect(() => {
    if (filter !== '') say(`${rows.length} of ${model.rows.length} shown`);
  }, [filter, rows.length]);
  const readOnly = off && !shared.outage;
  const { data: said } = useInstances(model.name), rollout = activeOf(shared.rollouts, model.name);
  const before = versionsOf(model.history).find((v) => v.version < model.version)?.version ?? 0;
  const refused = said?.version === model.version && said.instances.some((i) => refuses(i) === model.version);
  return html`<main class="page" id="main" tabindex="-1">
    <${ServiceHead} model=${model}><${ServiceMenu} model=${model} off=${off} onJSON=${() => setJSON(true)} />
      <${EditButton} name=${model.name} shared=${shared} primary aria-describedby=${readOnly ? 'role-why' : undefined} /></${ServiceHead}>
    <${ServiceTabs} name=${model.name} at="values" model=${model} />
    ${error && html`<${Failure} error=${error} what="This could not be read again." />`}
    ${refused && html`<${Refusals} name=${model.name} data=${said} version=${model.version} before=${before} off=${off} onRestore=${() => setUndo(before)} />`}
    ${rollout && html`<${Running} rollout=${rollout} />`}
    ${refused ? null : saved ? html`<${Saved} saved=${saved} data=${said} off=${off} onDismiss=${onDismiss} onUndo=${() => setUndo(saved.before)} />` : news !== null && html`<${News} model=${model} from=${news} onDismiss=${onDismiss} />`}
    ${readOnly && html`<${Note} tone="info" icon="lock"><span id="role-why"><b>You can read, not change.</b> ${off}</span></${Note}>`}
    ${!readOnly && html`<${DraftNote} model=${model} outage=${shared.outage} editHref=${editHref} />`}
    <div class="split"><div>
      <${DepthTools} rows=${model.rows} depth=${depth} setDepth=${setDepth} filter=${filter} setFilter=${setFilter} changed=${set}>
        <${Button} kind="quiet" class="push" icon="braces" aria-expanded=${String(json)} aria-controls="json" onClick=${() => setJSON(!json)}>JSON</${Button}></${DepthTools}>
      <section class="panel" id="json" hidden=${!json} aria-label="JSON">${json && html`<pre class="pad" tabindex="0">${JSON.stringify(model.config, null, 2)}</pre>`}</section>
      ${rows.length > 0 && html`<section class="panel" aria-label="Values"><ul class=${`fields${rows.length > 60 ? ' long' : ''}`}>${rows.map((row) => html`<li key=${row.key}><${FieldRead} model=${model} row=${row} off=${readOnly ? off : ''} open=${row.key === found} /></li>`)}</ul></section>`}
      ${rows.length === 0 && model.rows.length > 0 && html`<p class="muted">No field matches “${filter}”.</p>`}
    </div><${Recent} model=${model} said=${said} /></div>
    ${undo > 0 && html`<${RestoreDialog} model=${model} version=${undo} off=${off} onClose=${() => setUndo(0)} onDone=${(answer) => { setUndo(0); onOwn(answer); }} />`}
  </main>`;
}
