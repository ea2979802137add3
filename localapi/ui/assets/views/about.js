// The agent that answers, who is signed in, and how the page looks and listens to keys.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Seg } from '../components/basic.js';
import { useData } from '../components/context.js';
import { Loading, Panel, usePage } from '../components/kit.js';
import { CogFrame } from '../components/cog.js';
import { singleKeys } from '../components/keys.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { ending } from '../lib/cog.js';
import { exact } from '../lib/format.js';
import { theme } from '../lib/theme.js';

async function load(api) {
  const [me, health, cluster] = await Promise.all([api.get(at`me`), api.get(at`health`), api.get(at`cluster`).catch(() => null)]);
  return { me, health, cluster };
}

function Appearance() {
  const [colours, setColours] = useState(theme() || 'system'), [keys, setKeys] = useState(singleKeys());
  const choose = (value) => setColours(theme(value === 'system' ? '' : value) || 'system');
  return html`<${Panel} title="Appearance"><div class="pad"><dl class="facts"><dt>Colours</dt><dd><${Seg} label="Colours" name="colours" value=${colours} onChange=${choose}
      options=${[{ value: 'system', label: 'System' }, { value: 'light', label: 'Light' }, { value: 'dark', label: 'Dark' }]} /></dd>
    <dt>Single-key shortcuts</dt><dd><div class="row"><input type="checkbox" role="switch" class="switch" id="single-keys" aria-label="Single-key shortcuts" checked=${keys} onChange=${(e) => setKeys(singleKeys(e.currentTarget.checked))} /><span aria-hidden="true">${keys ? 'on' : 'off'}</span></div></dd></dl></div><//>`;
}

export function About() {
  const { api, me: session, shared, leave } = usePage();
  const read = useData(() => load(api), []), { data } = read, now = clock.now();
  const node = data?.cluster?.nodes.find((n) => n.node_id === shared.asked);
  const builds = [...new Set((data?.cluster?.nodes ?? []).map((n) => n.version).filter(Boolean))];
  const version = node?.version ?? (builds.length === 1 ? builds[0] : '');
  return html`<${CogFrame} tab="about" sentence=${version ? `Holdfast ${version}` : 'Holdfast'}>
    ${!data ? html`<${Loading} read=${read} />` : html`<div class="split even"><div><${Panel} title="This agent"><div class="pad"><dl class="facts">
      ${node && html`<dt>Agent</dt><dd><code>${node.node_id}</code>, ${node.role || 'server'}</dd>`}
      <dt>Build</dt><dd>${version || 'not known'}</dd>
      <dt>Cluster</dt><dd>${data.cluster ? html`<code>${data.cluster.cluster_id}</code>` : 'not known now'}</dd>
      <dt>Epoch</dt><dd><code>${data.health.config_epoch}</code></dd>
      <dt>Admin API</dt><dd><code>${location.origin}</code>, <a href="/openapi.json">OpenAPI</a></dd>
      ${node && html`<dt>Cluster port</dt><dd><code>${node.addr}</code></dd>`}</dl></div><//></div>
    <div><${Panel} title="You"><div class="pad"><dl class="facts"><dt>Name</dt><dd>${data.me.name}</dd><dt>Role</dt><dd>${data.me.role}</dd>
      <dt>Token</dt><dd>${data.me.token_id ? html`<code>${data.me.token_id}</code>, ends ${ending(data.me.expires_at, now)}` : html`of <code>CONFIG_API_TOKENS</code>, without an end`}</dd>
      ${session?.session_ends && html`<dt>Session</dt><dd>until ${exact(session.session_ends)}, valid on every server</dd>`}</dl>
      <div class="row gap"><${Button} icon="out" onClick=${leave}>Sign out<//></div></div><//>
    <${Appearance} /></div></div>`}
    <p class="muted">Apache-2.0. With preact (MIT) and htm (Apache-2.0).</p><//>`;
}
