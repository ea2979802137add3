// The frame of the settings: one title, and a tab for each view.
import { html } from '../lib/html.js';
import { Tabs } from './basic.js';
import { useTitle } from './context.js';

const TABS = [['cluster', 'Cluster'], ['health', 'Health'], ['backup', 'Backup'], ['keys', 'Keys'], ['tokens', 'Tokens'], ['access', 'Access log'], ['about', 'About']];

/** CogFrame draws what is in it below the tabs; `sentence` says how things stand. */
export function CogFrame({ tab, sentence, acts, children }) {
  useTitle(TABS.find(([path]) => path === tab)[1]);
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>Cluster and settings</h1><p>${sentence}</p></div>${acts && html`<div class="row">${acts}</div>`}</div>
    <${Tabs} label="Cluster and settings" items=${TABS.map(([path, label]) => ({ label, href: `#/cog/${path}`, current: path === tab }))} />
    ${children}</main>`;
}
