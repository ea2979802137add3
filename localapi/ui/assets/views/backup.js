// The backup: where it stands, when it was proved last, and what there is to restore from.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Cmd, Copy, Note, State, Table } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Loading, Panel, Refused, usePage, useWork } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { copied } from '../lib/cog.js';
import { bytes, number } from '../lib/format.js';
import { stamp, took } from '../lib/when.js';

async function load(api) {
  const status = await api.get(at`backups/status`);
  const backups = status.status === 'disabled' ? [] : await api.get(at`backups`).then((b) => b.backups, (error) => error);
  return { status, backups };
}

function sentence(b, now) {
  if (b.status === 'disabled') return 'Off: no place is set.';
  if (b.drill?.err) return 'The last drill failed: what is copied was not proved.';
  if (b.verified) return `Verified ${stamp(b.verified.at, now)}: restored and compared, equal at index ${number(b.verified.index)}.`;
  return 'Copied, and not verified yet.';
}

// brief is a generation with the first part of its epoch; look is what gives a copy of one.
const brief = (id) => id.replace(/^([0-9a-f]{8})-[0-9a-f-]{27}/, '$1');
const look = (id) => `holdfast backup restore -o old.db --generation ${id}`;

function Off() {
  return html`<div class="panel empty"><h2>No backup is made</h2><p>Set <code>LITESTREAM_S3_ENDPOINT</code> to an S3 endpoint or a directory, the same for all servers, and restart them one by one. The leader then copies every change within a second.</p></div>`;
}

export function Backup() {
  const { api, change } = usePage(), work = useWork();
  const read = useData(() => load(api), []), { data, reload } = read;
  const [drill, setDrill] = useState(null);
  const now = clock.now(), b = data?.status, off = b?.status === 'disabled';
  const run = () => work.run(async () => {
    setDrill(await api.post(at`backups/drill`));
    reload();
  });
  const row = (g) => ({ key: g.id, cells: [html`<code title=${g.id}>${brief(g.id)}</code>${g.id === b.generation && html`<span class="sub">written now</span>`}`,
    html`${stamp(g.started_at, now)} to ${g.id === b.generation ? 'now' : stamp(g.newest, now)}`,
    g.verified_at ? html`<${State} tone="ok" icon="check">verified ${stamp(g.verified_at, now)}<//>` : html`<${State} icon="clock">not verified yet<//>`,
    html`${bytes(g.bytes)}<span class="sub">${number(g.files)} files</span>`, html`<${Copy} kind="quiet tiny" label=${brief(g.id)} text=${look(g.id)}>Copy the command<//>`] });
  const c = b && copied(b, now);
  return html`<${CogFrame} tab="backup" sentence=${b ? sentence(b, now) : ''} acts=${html`<${Button} kind="primary" icon="check" off=${change || (off ? 'No place is set' : work.busy ? 'A drill is running' : '')} onClick=${run}>Run a drill now<//>`}>
    <${Refused} error=${work.error} />
    ${drill && html`<${Note} tone=${drill.err ? 'bad' : 'ok'} role="status">${drill.err ? html`<b>The drill failed.</b> ${drill.err}` : html`<b>Restored and compared: equal at index ${number(drill.index)}.</b> ${bytes(drill.bytes)}, took ${took(drill.took_seconds)}.`}<//>`}
    ${!data ? html`<${Loading} read=${read} />` : off ? html`<${Off} />` : html`
    <div class="stats"><div><span class="muted">Newest copy</span><div class="strong">${c.newest}</div><span class="muted">${c.position}</span></div>
      <div><span class="muted">Last drill</span><div class=${`strong tone ${c.drillTone}`}>${c.drill}</div><span class="muted">${c.drillSub}</span></div>
      <div><span class="muted">Place</span><div class="strong mono">${c.place}</div><span class="muted">written by ${b.node_id || 'nobody'}</span></div></div>
    ${b.err && html`<${Note} tone="bad"><b>The backup does not go on.</b> ${b.err}<//>`}
    <${Panel} title="Restore points" side=${html`<span class="muted push">one generation per leadership</span>`}>${Array.isArray(data.backups) ? data.backups.length === 0 ? html`<p class="pad muted">None yet: the first is written within a second of the next change.</p>`
      : html`<${Table} kind="mid" caption="Restore points" columns=${['Generation', 'Covers', 'Verified', 'Size', { label: 'Actions', sr: true, act: true }]} rows=${data.backups.map(row)} /><p class="pad muted">To look into one: <code>${look('GENERATION')}</code></p>` : html`<div class="pad"><${Refused} error=${data.backups} /></div>`}<//>
    <${Panel} title="After a total loss"><div class="pad stack"><p>On a new machine, in an empty directory with the <code>.env</code> file of one server:</p><${Cmd} text="holdfast agent --restore --data-dir DIRECTORY" />
      <${Note} tone="warn">The <b>.env file is not in the backup</b>, and nothing opens without it. Keep a copy elsewhere.<//></div><//>`}<//>`;
}
