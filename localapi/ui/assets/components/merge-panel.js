// A conflict: base, theirs with who and why, mine. Only keys that both changed need a decision.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { ago, count, quoted, shown } from '../lib/format.js';
import { format, parse, typeText } from '../lib/fields.js';
import { Button, Chip, Note, State, Table } from './basic.js';

const named = (value) => (value === undefined ? 'default' : shown(value).slice(0, 400));
const subs = { conflict: 'both changed it', theirs: 'theirs only', mine: 'yours only', same: 'the same on both sides' };

function Decision({ row, base, field, newest, decided, decide }) {
  const [other, setOther] = useState('');
  const choice = decided === undefined ? '' : typeof decided === 'string' ? decided : 'other';
  const type = (text) => {
    setOther(text);
    const read = field ? parse(field, text) : { value: text };
    decide(row.key, read.error ? undefined : { to: read.value });
  };
  const radio = (value) => html`<input type="radio" name=${`c-${row.key}`} checked=${choice === value} onChange=${() => (value === 'other' ? type(other) : decide(row.key, value))} />`;
  const name = `c-${row.key}`;
  return html`<section class="panel"><header><h2><code>${row.key}</code></h2>${decided === undefined ? html`<${Chip} tone="bad" icon="bad">needs a decision</${Chip}>` : html`<${Chip} tone="ok" icon="check">decided</${Chip}>`}<span class="muted push">both of you changed it</span></header>
    <div class="pad stack"><p class="muted">${field?.description && `${field.description}. `}${field && `${typeText(field)}. `}It was <code>${named(row.base)}</code> in v${base}, the common base.</p>
    <div class="pick" role="radiogroup" aria-label=${row.key}>
      <label class="theirs">${radio('theirs')}<span class="tone strong">Theirs: ${newest?.by ?? 'somebody'}, v${newest?.version ?? '?'}</span><span class="big">${named(row.theirs)}</span><span class="muted">${newest?.reason || 'no reason given'}</span></label>
      <label class="info">${radio('mine')}<span class="tone strong">Yours</span><span class="big">${named(row.mine)}</span><span class="muted">in your draft</span></label>
      ${(!field || !['boolean', 'secret'].includes(field.kind)) && html`<label for=${name}>${radio('other')}<span class="strong">Another value</span><span><input class="mono" id=${name} aria-label=${`Another value of ${row.key}`} value=${other} placeholder=${field ? format(field, row.base) : ''} onInput=${(e) => type(e.target.value)} /></span></label>`}
    </div></div></section>`;
}

/** MergePanel draws the decisions; onDone gets them when the person continues. */
export function MergePanel({ head, model, editor, onDone, onDiscard, off }) {
  const [decided, setDecided] = useState({});
  const newest = editor.news[0];
  const who = (key) => editor.news.find((v) => v.keys.includes(key)) || newest;
  const decide = (key, choice) => setDecided((old) => ({ ...old, [key]: choice }));
  const open = editor.conflicts.filter((row) => decided[row.key] === undefined);
  const resultOf = (row) => {
    if (row.kind === 'theirs' || row.kind === 'same') return row.theirs;
    if (row.kind === 'mine') return row.mine;
    const choice = decided[row.key];
    return choice === 'theirs' ? row.theirs : choice === 'mine' ? row.mine : choice?.to;
  };
  const rows = editor.rows.map((row) => ({ key: row.key, cells: [
    html`<code class="strong">${row.key}</code><span class=${`sub ${row.kind === 'conflict' ? 'tone bad' : ''}`}>${subs[row.kind]}</span>`, html`<code>${named(row.base)}</code>`,
    html`<code class=${row.kind === 'mine' ? 'muted' : 'tone theirs'}>${named(row.theirs)}</code>`, html`<code class=${row.kind === 'theirs' ? 'muted' : 'tone info'}>${named(row.mine)}</code>`,
    row.kind === 'conflict' && decided[row.key] === undefined ? html`<span class="tone bad">open</span>` : html`<code>${named(resultOf(row))}</code>`] }));
  const same = model.rows.filter((row) => !editor.rows.some((r) => r.key === row.key)).length;
  const merged = editor.rows.length - editor.conflicts.length;
  const stop = off || (open.length > 0 ? `${count(open.length, 'key')} ${open.length === 1 ? 'needs' : 'need'} a decision: ${open.map((r) => r.key).join(', ')}` : '');
  return html`<main class="page" id="main" tabindex="-1">${head}<${Note} tone="theirs" role="alert"><b>${newest ? `v${newest.version} by ${newest.by}, ${ago(newest.at)}` : `v${model.version}`}:</b> ${newest?.reason && `${quoted(newest.reason)}. `}${merged} of ${count(editor.rows.length, 'key')} merge automatically. ${count(editor.conflicts.length, 'key')} ${editor.conflicts.length === 1 ? 'needs' : 'need'} your decision.</${Note}>
    ${editor.conflicts.map((row) => html`<${Decision} key=${row.key} row=${row} base=${editor.draft.base} field=${model.rows.find((f) => f.key === row.key)} newest=${who(row.key)} decided=${decided[row.key]} decide=${decide} />`)}
    <section class="panel"><header><h2>All keys that differ</h2>${same > 0 && html`<span class="muted push">${count(same, 'other key')} ${same === 1 ? 'is' : 'are'} the same on both sides</span>`}</header><${Table} caption="Three-way merge" columns=${['Key', `Base, v${editor.draft.base}`, `Theirs, v${model.version}`, 'Yours', 'Result']} rows=${rows} /></section></main>
    <div class="savebar" role="region" aria-label="Save"><${State} tone=${open.length === 0 ? 'ok' : 'bad'} icon=${open.length === 0 ? 'check' : 'bad'}>${editor.conflicts.length - open.length} of ${editor.conflicts.length} decided</${State}>
      <span class="push row"><${Button} kind="quiet danger" onClick=${onDiscard}>Discard</${Button}><${Button} kind="primary" icon="arrow" off=${stop} data-review="" kbd="Ctrl ↵" onClick=${() => onDone(decided)}>Review on top of v${model.version}</${Button}></span></div>`;
}
