// The editor of what no form can draw: the stored values as JSON, with the same checks.
import { html } from '../lib/html.js';
import { Icon, Note } from './basic.js';

/** JSONEditor edits the whole text. Errors of keys stand below it, because there is no field for them. */
export function JSONEditor({ text, errors, hid, onInput }) {
  const mistake = errors[''];
  const others = Object.entries(errors).filter(([key]) => key !== '');
  return html`<${Note} tone="info" icon="braces">This service has values that no form can draw. Here are its stored values as JSON; the agent checks them as it does in a form.</${Note}>
    ${hid?.length > 0 && html`<${Note} tone="warn" icon="key">This tab keeps no secrets. If the page is loaded again, type them again: <code>${hid.join(', ')}</code>. One that is left out stays as it is stored.</${Note}>`}
    <section class="panel" aria-label="Values as JSON"><div class="pad"><label class="label-top" for="i-json">Stored values</label>
      <textarea class=${`mono ${text.length > 5000 ? 'huge' : 'tall'}`} id="i-json" spellcheck="false" value=${text} aria-invalid=${mistake || others.length > 0 ? 'true' : undefined} aria-describedby="e-json h-json" onInput=${(e) => onInput(e.target.value)} />
      <div id="e-json">${mistake && html`<p class="err"><${Icon} name="bad" /><span>${mistake}</span></p>`}${others.map(([key, message]) => html`<p class="err" key=${key}><${Icon} name="bad" /><span><code>${key}</code> ${message}</span></p>`)}</div>
      <div class="hint" id="h-json"><span>JSON object. What is left out returns to its default.</span></div></div></section>`;
}
