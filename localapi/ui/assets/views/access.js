// The access log: every change, revealed secret and refusal, with filters.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { Button, Find, Icon, Note, State, Table } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Loading, Panel, usePage } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { accessQuery } from '../lib/cog.js';
import { count, exact, number } from '../lib/format.js';
import { download } from '../lib/download.js';
import { stamp } from '../lib/when.js';

const PAGE = 50;
const ICONS = { read: 'list', write: 'pen', reveal_secret: 'eye', unauthorized: 'bad' };
const ACTIONS = [['', 'Every action'], ['read'], ['write'], ['reveal_secret'], ['unauthorized']];
const SINCE = [['24', 'Last 24 hours'], ['168', 'Last 7 days'], ['2160', 'Last 90 days']];

function Choose({ id, label, options, value, set }) {
  return html`<label class="sr" for=${id}>${label}</label><select id=${id} value=${value} onChange=${(e) => set(e.currentTarget.value)}>${options.map(([v, text]) => html`<option key=${v} value=${v}>${text ?? v}</option>`)}</select>`;
}

export function Access() {
  const { api, me, shared, say } = usePage();
  const [f, setF] = useState({ action: '', service: '', user: '', hours: '24' }), [text, setText] = useState(''), [offset, setOffset] = useState(0);
  const [users, setUsers] = useState([]);
  const off = me?.role !== 'config.write'; // then asking would only add a refusal to the log
  const read = useData(async () => (off ? null : api.get(`${at`access`}?${accessQuery(f, clock.now(), offset, PAGE)}`)), [off, f.action, f.service, f.user, f.hours, offset]);
  const { data } = read, now = clock.now();
  // Who can be chosen is who was seen: the API has no list of names.
  useEffect(() => {
    if (data) setUsers((old) => [...new Set([...old, ...data.results.map((r) => r.user_id)])].filter(Boolean).sort());
  }, [data]);
  const set = (name) => (value) => {
    setOffset(0);
    setF((old) => ({ ...old, [name]: value }));
  };
  const q = text.trim().toLowerCase();
  const shown = (data?.results ?? []).filter((r) => q === '' || [r.user_id, r.action, r.service, r.key, r.reason].some((v) => v.toLowerCase().includes(q)));
  useEffect(() => {
    if (data) say(`${shown.length} of ${data.total} shown`);
  }, [data, text]);
  const row = (r, i) => ({ key: r.id ?? i, props: { 'data-row': r.action }, cells: [html`<time class="nowrap" datetime=${r.timestamp} title=${exact(r.timestamp)}>${stamp(r.timestamp, now)}</time>`,
    r.user_id ? html`<span class="strong">${r.user_id}</span>` : html`<span class="muted">unknown</span>`, html`<${State} icon=${ICONS[r.action] ?? 'info'}>${r.action}<//>`,
    r.success ? html`<${State} tone="ok" icon="check">done<//>` : html`<${State} tone="bad" icon="x">refused<//>`,
    html`${r.service && html`<a href=${href(['services', r.service])}>${r.service}</a>`}${r.key && html`<span class="sub mono word">${r.key}</span>`}`, r.reason] });
  if (off) {
    return html`<${CogFrame} tab="access" sentence="Every change, revealed secret and refusal, the same on every agent.">
      <${Note} tone="info" icon="lock"><b>You cannot read the access log.</b> Your token has the role ${me?.role}. Ask someone with config.write.<//><//>`;
  }
  const save = () => {
    download('access-log.json', `${JSON.stringify(shown, null, 2)}\n`);
    say(`Exported ${count(shown.length, 'row')}`);
  };
  const acts = html`<${Button} icon="up" off=${shown.length === 0 ? 'Nothing is shown' : ''} title="The rows shown, as JSON" onClick=${save}>Export<//>`;
  const last = data ? offset + data.results.length : 0;
  return html`<${CogFrame} tab="access" sentence="Every change, revealed secret and refusal, the same on every agent." acts=${acts}>
    <div class="tools"><${Find} id="access-find" label="Filter these: who, key, reason" value=${text} onInput=${setText} />
      <${Choose} id="access-action" label="Action" options=${ACTIONS} value=${f.action} set=${set('action')} />
      <${Choose} id="access-service" label="Service" options=${[['', 'Every service'], ...(shared.services ?? []).map((s) => [s.service])]} value=${f.service} set=${set('service')} />
      <${Choose} id="access-user" label="Who" options=${[['', 'Everybody'], ...users.map((u) => [u])]} value=${f.user} set=${set('user')} />
      <${Choose} id="access-since" label="Since" options=${SINCE} value=${f.hours} set=${set('hours')} />
      <span class="push">${data ? `${number(shown.length)} of ${number(data.total)}` : ''}</span></div>
    ${!data ? html`<${Loading} read=${read} />` : html`<${Panel} label="Access log" footer=${html`<span class="row"><span>${data.total === 0 ? '' : `${number(offset + 1)} to ${number(last)} of ${number(data.total)}`}</span>
      <span class="push row"><${Button} kind="quiet tiny" off=${offset === 0 ? 'These are the newest' : ''} onClick=${() => setOffset(Math.max(0, offset - PAGE))}>Newer<//>
      <${Button} kind="quiet tiny" off=${last >= data.total ? 'These are the oldest' : ''} onClick=${() => setOffset(offset + PAGE)}>Older<//></span></span>`}>
      ${shown.length === 0 ? html`<p class="pad muted"><${Icon} name="info" /> Nothing that fits these filters.</p>`
      : html`<${Table} caption="Access log" columns=${['When, UTC', 'Who', 'Action', 'Outcome', 'Service, key', 'Reason']} rows=${shown.map(row)} />`}<//>`}<//>`;
}
