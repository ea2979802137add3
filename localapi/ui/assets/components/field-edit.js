// A field while editing: label left, control right, the error before the hint. Every control keeps
// what was typed, also what is no value.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { ago, count, shown } from '../lib/format.js';
import { format, limits, parse, suggested } from '../lib/fields.js';
import { masked } from '../lib/service.js';
import { equal } from '../lib/values.js';
import { Button, Icon, Seg } from './basic.js';
import { pure } from './context.js';
import { Value } from './value.js';

// A text this long is laid out slowly: it gets a control of a fixed height, whatever is typed later.
const long = 5000;
const tall = (text, ...classes) => [...classes, text.length > long ? 'huge' : ''].filter(Boolean).join(' ') || undefined;

/** textOf is what the control of a row shows under a change of the draft. */
function textOf(row, change, value) {
  if (!change) return format(row, value);
  return change.text ?? format(row, change.remove ? row.default : change.to);
}

function Choice({ row, id, text, props, typed }) {
  const { choices } = row;
  const [near, setNear] = useState(false);
  if (choices.length <= 5) return html`<${Seg} id=${id} label=${row.key} name=${`r-${row.key}`} value=${text} describedby=${props['aria-describedby']} options=${choices.map((c) => ({ value: String(c), label: String(c) }))} onChange=${typed} />`;
  if (choices.length <= 50) {
    const known = choices.some((c) => String(c) === text);
    return html`<select id=${id} ...${props} onChange=${(e) => typed(e.target.value)}>${!known && html`<option value=${text} selected>${text || 'choose'}</option>`}${choices.map((c) => html`<option value=${String(c)} selected=${String(c) === text}>${String(c)}</option>`)}</select>`;
  }
  return html`<input class="mono" id=${id} ...${props} value=${text} list=${near ? `${id}-list` : undefined} autocomplete="off" spellcheck="false" onFocus=${() => setNear(true)} onInput=${(e) => typed(e.target.value)} />
    ${near && html`<datalist id=${`${id}-list`}>${suggested(choices, text).map((c) => html`<option key=${c} value=${c} />`)}</datalist>`}`;
}

function Control({ row, id, change, value, props, typed, set }) {
  const text = textOf(row, change, value);
  const [lines] = useState(text.includes('\n') || text.length > long); // the control does not change below the fingers
  switch (row.kind) {
    case 'boolean': {
      const on = change ? (change.remove ? row.default === true : change.to === true) : value === true;
      return html`<div class="row"><input type="checkbox" role="switch" class="switch" id=${id} ...${props} checked=${on} onChange=${(e) => set(e.target.checked)} /><span class="mono">${String(on)}</span></div>`;
    }
    case 'choice': return html`<${Choice} row=${row} id=${id} text=${text} props=${props} typed=${typed} />`;
    case 'integer':
    case 'float': return html`<input class="mono num" id=${id} inputmode=${row.kind === 'integer' ? 'numeric' : 'decimal'} ...${props} value=${text} autocomplete="off" spellcheck="false" onInput=${(e) => typed(e.target.value)} />`;
    case 'json': return html`<textarea class=${tall(text, 'mono')} id=${id} rows="2" ...${props} value=${text} spellcheck="false" onInput=${(e) => typed(e.target.value)} />`;
    case 'text': return html`<textarea class=${tall(text)} id=${id} rows="3" ...${props} value=${text} onInput=${(e) => typed(e.target.value)} />`;
    default:
      if (lines) return html`<textarea class=${tall(text, 'mono')} id=${id} rows="3" ...${props} value=${text} spellcheck="false" onInput=${(e) => typed(e.target.value)} />`;
      return html`<input class="mono" id=${id} ...${props} value=${text} autocomplete="off" spellcheck="false" onInput=${(e) => typed(e.target.value)} />`;
  }
}

function Nullable({ row, id, change, value, props, typed, set }) {
  const now = change ? (change.text !== undefined ? change.text : change.remove ? row.default ?? null : change.to) : value;
  const none = now === null || now === undefined;
  const first = row.kind === 'boolean' ? false : row.kind === 'choice' ? row.choices[0] : '';
  const choose = (has) => {
    if (!has) set(null);
    else if (none && (row.kind === 'boolean' || row.kind === 'choice')) set(first);
    else if (none) typed('');
  };
  return html`<div class="row"><${Seg} id=${none ? id : undefined} label=${`${row.key}: has a value`} name=${`n-${row.key}`} value=${!none} options=${[{ value: false, label: 'No value' }, { value: true, label: 'A value' }]} onChange=${choose} /></div>
    ${!none && html`<div class="gap"><${Control} row=${row} id=${id} change=${change} value=${value} props=${props} typed=${typed} set=${set} /></div>`}`;
}

function Locked({ explain, row }) {
  const hides = explain.shadows.find((s) => s.source === 'database') || explain.shadows[0];
  return html`<div class="locked"><${Icon} name="lock" /><div>${!row.secret && !masked(explain.winner) && html`<code><${Value} value=${explain.winner.value} /></code><br />`}Set by <b>${explain.winner.env}</b> in this agent’s environment${!row.secret && masked(explain.winner) ? ', whose values are not shown here' : ''}.
    ${row.secret && html`<br /><span class="muted">Never stored, never shown.</span>`}
    ${hides && html`<br /><span class="muted">Hides the ${hides.source === 'database' ? 'stored value' : 'default'} ${!row.secret && html`<code><${Value} value=${hides.value} /></code>`}${hides.version ? ` (v${hides.version}, ${hides.updated_by})` : ''}.</span>`}</div></div>`;
}

function Secret({ explain, onSecret, off }) {
  const set = explain?.winner?.source === 'database' ? `set ${ago(explain.winner.updated_at)}, not shown` : 'not set';
  return html`<div class="row"><${Button} icon="key" off=${off} onClick=${onSecret}>Set a new value</${Button}><span class="muted">${set}</span></div>`;
}

/**
 * FieldEdit draws one row. `change` is what the draft has for it, `value` what is stored or the
 * default, `was` whether a value is stored, `theirs` a newer value of somebody else.
 */
export const FieldEdit = pure(({ row, service, explain, value, was, change, error, theirs, onChange, onSecret, off, inside }) => {
  const id = `i-${row.key}`;
  const locked = explain?.winner?.source === 'env' || (row.secret && row.secretSource === 'env');
  const label = html`${row.description && html`<p class="about">${row.description}</p>`}${row.help && html`<p class="about">${row.help}</p>`}`;
  const set = (to) => onChange(row, equal(to, value) ? null : { to });
  const typed = (text) => {
    const read = parse(row, text);
    if (read.error) onChange(row, { text, error: read.error });
    else if (equal(read.value, value)) onChange(row, text === format(row, value) ? null : { to: read.value, text, idle: true }); // another spelling of the same
    else onChange(row, { to: read.value, text });
  };
  const props = { 'aria-invalid': error ? 'true' : undefined, 'aria-describedby': error ? `e-${row.key} h-${row.key}` : `h-${row.key}` };
  const common = { row, id, change, value, props, typed, set };
  const plain = !locked && !row.secret;
  const single = plain && !row.nullable && !(row.kind === 'choice' && row.choices.length <= 5);
  let control;
  if (locked) control = explain?.winner ? html`<${Locked} explain=${explain} row=${row} />` : html`<div class="locked"><${Icon} name="lock" /><div>Comes from <b>${row.env}</b> in the agent’s environment, which is not set.</div></div>`;
  else if (row.secret) control = html`<${Secret} explain=${explain} onSecret=${() => onSecret(row)} off=${off} />`;
  else control = row.nullable ? html`<${Nullable} ...${common} />` : html`<${Control} ...${common} />`;
  if (theirs) control = html`<div class="row">${control}<span class="chip theirs">v${theirs.version} by ${theirs.by}: ${shown(theirs.value).slice(0, 40)}</span></div>`;
  const typedText = row.kind === 'text' && (change?.text ?? format(row, value));
  return html`<div class=${`field edit${error ? ' bad' : change && !change.idle ? ' diff' : ''}`} id=${inside ? undefined : `f-${row.key}`}>
    <div>${single ? html`<label class="key" for=${id}>${row.key}</label>` : html`<span class="key" id=${`l-${row.key}`}>${row.key}</span>`}${label}</div>
    <div>${control}
      ${error && html`<p class="err" id=${`e-${row.key}`}><${Icon} name="bad" /><span>${error}</span></p>`}
      <div class="hint" id=${`h-${row.key}`}>${row.secret && html`<span>secret</span><a href=${href(['services', service, 'secrets'])}>Secrets of this service</a>`}
        ${plain && html`${limits(row).map((l) => html`<span>${l}</span>`)}${typedText && row.maxLength && html`<span>${[...typedText].length} of ${count(row.maxLength, 'character')}</span>`}
        ${row.hasDefault && (change || was) && html`<span>default <code>${shown(row.default).slice(0, 60)}</code></span>`}${!was && !change && row.hasDefault && html`<span>default</span>`}
        ${change && !change.idle && html`<span>was <code>${shown(value).slice(0, 60)}</code></span><button type="button" class="link" aria-label=${`Undo the change of ${row.key}`} onClick=${() => onChange(row, null)}>undo</button>`}
        ${row.hasDefault && was && !change?.remove && html`<button type="button" class="link" aria-label=${`Return ${row.key} to its default`} onClick=${() => onChange(row, { remove: true })}>return to default</button>`}`}</div>
    </div></div>`;
});
