// The schema of a service: a readable table, the JSON, and a new one with what it would break.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Copy, Icon, Note, Seg, Table, Time } from '../components/basic.js';
import { useData, useTitle } from '../components/context.js';
import { Loading, Panel, usePage } from '../components/kit.js';
import { ServiceFrame } from '../components/frame.js';
import { useSchemaDraft } from '../components/schema-draft.js';
import { Upload } from './schemaupload.js';
import { at } from '../lib/api.js';
import { count } from '../lib/format.js';
import { show } from '../lib/profiles.js';
import { allowed, fieldsOf, typeOf } from '../lib/schemadiff.js';

// load gives the schema, or null when the service has none.
async function load(api, service) {
  try {
    return { stored: await api.get(at`schemas/${service}`) };
  } catch (error) {
    if (error.status === 404) return { stored: null };
    throw error;
  }
}

// narrow keeps a short text in one piece.
const narrow = (text) => html`<code class=${text.length <= 16 ? 'nowrap' : undefined}>${text}</code>`;

// The schema itself tells "above 0" from "at least 0"; the API has what the schema does not say by itself.
const row = (f, own) => {
  const can = f.validation_allowed?.length > 12 ? allowed(f) : own?.allowed || allowed(f);
  return { key: f.key, cells: [
    html`<code class="strong">${f.key}</code><span class="sub">${f.description}</span>`,
    html`${typeOf(f)}${f.required && html`<span class="sub">required</span>`}${f.is_secret && html`<span class="sub">${f.env ? `secret of ${f.env}` : 'stored secret'}</span>`}`,
    can ? narrow(can) : html`<span class="muted">any</span>`,
    f.is_secret ? html`<span class="muted">none</span>` : f.default === undefined ? html`<span class="muted">none</span>` : narrow(show(f.default)),
    f.complexity === 'advanced' ? html`<span class="muted nowrap">advanced</span>` : f.complexity] };
};

function Fields({ stored, onEdit }) {
  const [as, setAs] = useState('Table');
  const own = fieldsOf(stored.schema), strict = stored.schema.additionalProperties === false;
  const text = JSON.stringify(stored.schema, null, 2);
  return html`<${Panel} title=${count(stored.fields.length, 'field')} side=${html`<span class="push row">${as === 'JSON' && html`<${Copy} text=${text}>Copy<//>`}<${Seg} label="Shown as" name="as" options=${['Table', 'JSON']} value=${as} onChange=${setAs} /><${Button} kind="quiet" icon="pen" data-edit="" kbd="e" onClick=${() => onEdit(text)}>Edit<//></span>`}
    footer=${html`Hash <code>${stored.hash.slice(0, 8)}</code>, stored <${Time} at=${stored.updated_at} /> by ${stored.updated_by}.${strict && ' Keys outside the schema are refused.'}`}>
    ${as === 'JSON' ? html`<pre class="pad wrap" tabindex="0" aria-label="Schema as JSON">${text}</pre>`
      : html`<${Table} kind="mid" caption="Fields of the schema" columns=${['Key', 'Type', 'Allowed', 'Default', 'Shown']} rows=${stored.fields.map((f) => row(f, own.get(f.key)))} />`}<//>`;
}

const begin = '{\n  "type": "object",\n  "properties": {}\n}';

// The text of the new schema. What is wrong with it stands below it; what it would do, beside it.
function Editor({ of, off }) {
  const { draft } = of, rejected = draft?.result?.rejected ?? [];
  const bad = Boolean(draft?.error) || rejected.length > 0;
  useEffect(() => document.getElementById('sj')?.focus({ preventScroll: true }), []);
  return html`<${Panel} title="Edit the schema" side=${html`<span class="push row"><${Button} kind="quiet danger" onClick=${of.discard}>Discard<//></span>`}
    footer=${`Kept in this tab until it is stored or discarded.${off ? ` ${off}` : ''}`}>
    <div class="pad"><label class="label-top" for="sj">Schema, as JSON</label>
      <textarea class=${`mono ${of.typed.length > 5000 ? 'huge' : 'tall'}`} id="sj" spellcheck="false" value=${of.typed} aria-invalid=${bad ? 'true' : undefined} aria-describedby="sj-e" onInput=${(e) => of.type(e.currentTarget.value)} />
      <div id="sj-e">${draft?.error && html`<p class="err"><${Icon} name="bad" /><span>${draft.error}</span></p>`}${rejected.map((d) => html`<p class="err"><${Icon} name="bad" /><span><code>${d.key}</code> ${d.message}</span></p>`)}</div></div><//>`;
}

// Keyed by the hash of what is stored: after another one the comparison begins again.
function Work({ service, stored, off, done }) {
  const of = useSchemaDraft(service, stored?.schema ?? {}, done);
  const open = (text) => of.type(text);
  return html`<div class="split wide"><div>
      ${of.typed !== null ? html`<${Editor} of=${of} off=${off} />` : stored ? html`<${Fields} stored=${stored} onEdit=${open} />` : html`<${Panel} title="No schema" footer=${html`<span class="row"><${Button} icon="pen" data-edit="" onClick=${() => open(begin)}>Write one<//></span>`}><p class="pad">Any value is taken, and nothing has a default. Write or upload a JSON Schema to have values checked.</p><//>`}</div>
    <aside aria-label="New schema"><${Upload} of=${of} off=${off} /></aside></div>`;
}

export function Schema({ name: service }) {
  const { api, change } = usePage();
  useTitle(`Schema of ${service}`);
  const read = useData(() => load(api, service), [service]), { data, reload } = read;
  const [done, setDone] = useState('');
  const stored = (text) => {
    setDone(text);
    reload();
  };
  return html`<${ServiceFrame} service=${service} tab="schema" fresh=${done} own>
    ${done && html`<${Note} tone="ok" role="status"><b>${done}</b><//>`}
    ${!data ? html`<${Loading} read=${read} />` : html`<${Work} key=${data.stored?.hash} service=${service} stored=${data.stored} off=${change} done=${stored} />`}<//>`;
}
