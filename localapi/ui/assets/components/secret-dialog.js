// Set a secret without showing one. It is saved at once, never with the draft.
import { useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { parsed } from '../lib/schemadiff.js';
import { Dialog } from './basic.js';
import { useApp } from './context.js';
import { Choice, Refused, useName, useWork } from './kit.js';

/** SecretDialog sets one secret of the JSON types; onDone gets the new version. The value leaves the page with the dialog. */
export function SecretDialog({ service, name, types = ['string'], off, onClose, onDone }) {
  const { api, say } = useApp(), id = useName(), value = useRef(null), work = useWork();
  const [reason, setReason] = useState(''), [typed, setTyped] = useState(false);
  const set = async () => {
    if (off || !typed) return;
    // The value goes from the control to the request, and into no state of the page.
    const out = await work.run(() => api.put(at`services/${service}/secrets/${name}`, { value: parsed(value.current.value, { type: types.join(' or ') }), reason }));
    if (!out) return;
    value.current.value = '';
    say(`${name} is set, as v${out.new_version}`);
    onDone(out.new_version);
  };
  return html`<${Dialog} slim title=${`Set ${name}`} onClose=${onClose} onSubmit=${set}
    footer=${html`<${Choice} onClose=${onClose} icon="key" off=${off || (typed ? '' : 'Type the new value')}>Set the secret<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} />
    <label class="label-top" for=${`${id}v`}>New value</label><input hidden autocomplete="username" value=${`${service} ${name}`} readonly />
    <input type="password" id=${`${id}v`} ref=${value} data-first autocomplete="new-password" aria-describedby=${`${id}h`} onInput=${(e) => setTyped(e.currentTarget.value !== '')} />
    <div class="hint" id=${`${id}h`}><span>Sealed before it is stored. Saved at once, not with the draft.</span></div>
    <label class="label-top" for=${`${id}r`}>Reason</label><input id=${`${id}r`} maxlength="1024" placeholder="quarterly change" value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} /></div><//>`;
}
