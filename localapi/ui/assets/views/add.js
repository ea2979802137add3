// Add a service: its name and its schema, or values that a schema is made of. The agent judges both
// while they are typed, and stores them in one version.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { count } from '../lib/format.js';
import { infer } from '../lib/infer.js';
import { kept } from '../lib/kept.js';
import { badName, nameOf } from '../lib/names.js';
import { href } from '../lib/router.js';
import { fieldsOf, read } from '../lib/schemadiff.js';
import { Button, Cmd, Icon, Note, Reason, Seg } from '../components/basic.js';
import { useTitle } from '../components/context.js';
import { Refused, usePage, useWork } from '../components/kit.js';

const pause = 400; // after the last key stroke
const sample = '{\n  "type": "object",\n  "properties": {\n    "volume_percent": { "type": "integer", "minimum": 0, "maximum": 100, "default": 60 }\n  }\n}';

/** made reads the text: {schema, config, secrets, error}. */
function made(from, text) {
  if (text.trim() === '') return { error: '' };
  const { schema, error } = read(text);
  if (error) return { error: from === 'values' ? error.replace('a schema is', 'values are') : error };
  return from === 'values' ? infer(schema) : { schema, config: {}, secrets: [] };
}

/** useJudged asks the agent about a service that is not there yet: {error, version, pending}. */
function useJudged(api, name, body) {
  const [state, set] = useState({ error: null, version: 0, of: '' });
  const asked = body ? `${name}\n${JSON.stringify(body)}` : '';
  useEffect(() => {
    if (asked === '') return undefined;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const out = await api.post(at`services/${name}/validate`, { ...body, mode: 'put' }, { signal: stop.signal });
        set({ error: null, version: out.new_version, of: asked });
      } catch (error) {
        if (!stop.signal.aborted) set({ error, version: 0, of: asked });
      }
    }, pause);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [asked]);
  return asked !== '' && state.of === asked ? state : { error: null, version: 0, pending: asked !== '' };
}

function Problem({ id, text, details }) {
  return html`<div id=${id}>${text && html`<p class="err"><${Icon} name="bad" /><span>${text}</span></p>`}
    ${details?.map((d) => html`<p class="err" key=${d.key}><${Icon} name="bad" /><span><code>${d.key || 'schema'}</code> ${d.message}</span></p>`)}</div>`;
}

function Form({ off, services }) {
  const { api, go, say, refresh } = usePage(), file = useRef(null), work = useWork();
  const [name, setName] = useState(() => kept('add.name')), [from, setFrom] = useState('schema');
  const [text, setText] = useState(() => kept('add')), [reason, setReason] = useState(''), [raised, setRaised] = useState(false);
  const taken = services?.some((s) => s.service === name);
  const wrong = taken ? 'There is a service of this name already.' : badName(name);
  const { schema, config, secrets, error } = made(from, text);
  const judged = useJudged(api, name, schema && wrong === '' ? { schema, config } : null);
  const fields = schema ? [...fieldsOf(schema).keys()] : [];
  const details = judged.error?.details ?? [];
  const problem = error || (judged.error ? (details.length > 0 ? 'The agent does not take this schema.' : judged.error.message) : raised && !schema ? 'Paste it, or choose a file.' : '');
  const type = (next, source = from) => {
    setText(next);
    kept('add', source === 'schema' ? next : ''); // values may have credentials
  };
  const call = (next) => {
    setName(next);
    kept('add.name', next);
  };
  const picked = async (e) => {
    const [one] = e.currentTarget.files;
    e.target.value = '';
    if (!one) return;
    if (name === '') call(nameOf(one.name));
    type(await one.text());
  };
  const add = () => work.run(async () => {
    setRaised(true);
    if (off || wrong || !schema || judged.error || judged.pending) {
      requestAnimationFrame(() => document.querySelector('main [aria-invalid=true]')?.focus());
      return;
    }
    const out = await api.put(at`services/${name}`, { service: name, version: judged.version - 1, schema, config, reason });
    kept('add', '');
    kept('add.name', '');
    say(`Added ${name} as v${out.new_version}`);
    refresh();
    go(href(['services', name]));
  });
  const next = judged.version || 1;
  const bad = name !== '' || raised ? wrong : '';
  const what = from === 'schema' ? 'Schema, as Pydantic, zod or Go emit it' : 'Values, as JSON';
  return html`<form class="form" novalidate onSubmit=${(e) => { e.preventDefault(); add(); }}>
    <div><label class="label-top" for="an">Name of the service</label>
      <input class="mono" id="an" placeholder="stt-worker" autocomplete="off" spellcheck="false" value=${name} aria-invalid=${bad ? 'true' : undefined} aria-describedby="an-e an-h" onInput=${(e) => call(e.currentTarget.value.trim())} />
      <${Problem} id="an-e" text=${bad} />
      <div class="hint" id="an-h">${taken ? html`<a href=${href(['services', name])}>Open ${name}</a>` : next > 1 ? html`<span>A service of this name was deleted in v${next - 1}: this becomes v${next}, and its history goes on.</span>` : html`<span>The service asks for its configuration by this name.</span>`}</div></div>
    <div class="row"><${Seg} label="Made of" name="from" value=${from} options=${[{ value: 'schema', label: 'A schema' }, { value: 'values', label: 'Values only' }]} onChange=${(to) => { setFrom(to); type(text, to); }} />
      <input type="file" class="sr" tabindex="-1" aria-hidden="true" ref=${file} accept=".json,application/json,application/schema+json" aria-label="File" onChange=${picked} />
      <${Button} icon="up" onClick=${() => file.current.click()}>Choose a file</${Button}></div>
    <div><label class="label-top" for="as">${what}</label>
      <textarea class=${`mono ${text.length > 5000 ? 'huge' : 'tall'}`} id="as" spellcheck="false" value=${text} aria-invalid=${problem || details.length > 0 ? 'true' : undefined} aria-describedby="as-e as-h" onInput=${(e) => type(e.currentTarget.value)} />
      <${Problem} id="as-e" text=${problem} details=${details} />
      <div class="hint" id="as-h">${fields.length > 0 ? html`<span>${count(fields.length, 'field')}: ${fields.slice(0, 6).join(', ')}${fields.length > 6 ? ` and ${fields.length - 6} more` : ''}.</span>` : text === '' && from === 'schema' && html`<button type="button" class="link" onClick=${() => type(sample)}>What a schema looks like</button>`}
        ${from === 'values' && html`<span>${secrets?.length > 0 ? html`Sealed as secrets: <code>${secrets.join(', ')}</code>. ` : ''}Types are taken from the values, and the values become the defaults. Limits can be added later, in the tab Schema.</span>`}</div></div>
    <${Reason} id="ar" value=${reason} onInput=${setReason} />
    <${Refused} error=${work.error} />
    <div class="row"><${Button} kind="primary" icon="check" type="submit" off=${off || (judged.pending ? 'The agent is checking it' : '')} data-review="">${`Add as v${next}`}</${Button}>${judged.version > 0 && html`<span class="muted" role="status">checked</span>`}</div></form>`;
}

/** AddPanel is the form, with how the command line does it. */
function AddPanel({ off, services, first }) {
  return html`<section class="panel" aria-label="Add a service">${first && html`<div class="empty"><${Icon} name="mark" /><h2>Add the first service</h2><p>A service starts with a JSON Schema: its keys, types and defaults. Add one and its form, validation and local API are ready.</p></div>`}
    ${off && html`<div class="pad"><${Note} tone="info" icon="lock"><b>You can check a schema, not add it.</b> ${off}</${Note}></div>`}
    <div class="pad split even"><${Form} off=${off} services=${services} />
      <div class="form"><h3>From the command line</h3><${Cmd} text="holdfast schema put stt-worker stt-worker.json" /><${Cmd} text="holdfast import config.yaml" />
        <h3>Or with samples</h3><${Cmd} text="make demo" /></div></div></section>`;
}

/** AddFirst is the list of services while there is none. */
export function AddFirst({ off, head }) {
  return html`<main class="page" id="main" tabindex="-1">${head}<${AddPanel} off=${off} services=${[]} first /></main>`;
}

export function Add() {
  const { shared, change } = usePage();
  useTitle('Add a service');
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>Add a service</h1><p>Its name and its schema are stored in one version. Nothing is stored before.</p></div></div>
    <${AddPanel} off=${change} services=${shared.services} /></main>`;
}
