// The one banner: which source is shown, how old it is, why changes are off and what to do.
import { html } from '../lib/html.js';
import { Button, Note } from './basic.js';
import { useApp } from './context.js';

/** OutageBanner spans the page for as long as changes are off. The page asks again by itself. */
export function OutageBanner({ outage }) {
  const { refresh, say } = useApp();
  const again = async () => {
    await refresh();
    say('Asked again');
  };
  const acts = html`<${Button} kind="tiny" onClick=${again}>Try now</${Button}><${Button} kind="tiny" icon="node" href="#/cog/cluster">Cluster</${Button}>`;
  return html`<${Note} banner tone="warn" icon="cloud-off" role="alert" acts=${acts}>
    <p><b>${outage.title}</b> ${outage.text}</p><p>${outage.advice} This page recovers by itself.</p></${Note}>`;
}
