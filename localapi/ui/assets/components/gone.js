// A service that is not there: deleted, or never made. What was deleted can be restored here.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { kept } from '../lib/kept.js';
import { Button, Note, Reason } from './basic.js';
import { useData } from './context.js';
import { Panel, Refused, usePage, useWork } from './kit.js';

/** Gone says why there is nothing, and offers the way back: the last values, or a new service. */
export function Gone({ name, error, off, retry }) {
  const { api, say, refresh } = usePage(), work = useWork();
  const [reason, setReason] = useState('');
  const { data } = useData(async () => (await api.get(at`services/${name}/versions`).catch(() => ({ versions: [] }))).versions, [name]);
  const [deleted, last] = data ?? [];
  const restore = () => !off && work.run(async () => {
    const out = await api.post(at`services/${name}/restore`, { version: last.version, expect: deleted.version, reason });
    say(`Restored ${name} as v${out.new_version}`);
    refresh();
    retry();
  });
  return html`<${Note} tone="warn" role="alert" acts=${html`<${Button} kind="tiny" icon="plus" href="#/add" onClick=${() => kept('add.name', name)}>Add it anew</${Button}>`}><b>There is no service ${name}.</b> ${error.message}.</${Note}>
    ${last && html`<form onSubmit=${(e) => { e.preventDefault(); restore(); }}><${Panel} title=${`Restore v${last.version} as v${deleted.version + 1}`}
      footer=${html`<span class="row"><span>Secrets are not restored.</span><span class="push"><${Button} kind="primary" icon="undo" type="submit" off=${off} data-review="">${`Restore v${last.version} as v${deleted.version + 1}`}</${Button}></span></span>`}>
      <div class="pad stack"><p>The stored values that it had before it was deleted become a new version.</p><${Reason} id="gr" value=${reason} onInput=${setReason} /><${Refused} error=${work.error} /></div></${Panel}></form>`}`;
}
