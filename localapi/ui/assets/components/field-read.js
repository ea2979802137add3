// A field while reading: key, value, origin; the key opens where the value is from.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { ago } from '../lib/format.js';
import { typeText } from '../lib/fields.js';
import { isSet, masked, originOf } from '../lib/service.js';
import { Button, Copy, Time } from './basic.js';
import { Value } from './value.js';

function Origin({ origin }) {
  if (origin.kind === 'env') return html`<b>environment</b> ${origin.env}`;
  if (origin.kind === 'stored') return html`<b>v${origin.version}</b> ${origin.by}, <${Time} at=${origin.at} />${origin.reason && html`<br />${origin.reason}`}`;
  return origin.kind === 'unset' ? 'not set' : 'default';
}

function Source({ source, secret }) {
  const name = { env: 'environment', database: `stored${source.version ? `, v${source.version}` : ''}`, default: 'default' }[source.source];
  const who = source.source === 'env' ? source.env : source.source === 'database' ? `${source.updated_by}, ${ago(source.updated_at)}` : 'schema';
  return html`<li><span>${name}</span>${masked(source) && !secret ? html`<span class="muted">not shown</span>` : html`<code><${Value} value=${source.value} secret=${secret} /></code>`}<span>${who}</span></li>`;
}

function More({ model, row, id, hidden, off, editHref }) {
  const explain = model.origins.get(row.key);
  const sources = explain ? [explain.winner, ...explain.shadows].filter(Boolean) : [];
  const env = explain?.winner?.source === 'env' ? explain.winner.env : '';
  const curl = () => `curl -X PATCH -H "X-API-Token: $TOKEN" -H "Content-Type: application/merge-patch+json" -H 'If-Match: "${model.version}"' `
    + `-d '${JSON.stringify(nest(row.path, row.secret ? '...' : (env ? explain.shadows[0] : explain?.winner)?.value ?? null)).replaceAll("'", "'\\''")}' "${location.origin}/api/config/services/${encodeURIComponent(model.name)}"`;
  return html`<div class="more" id=${id} hidden=${hidden}>${!hidden && html`
    ${sources.length > 0 && html`<ul class="origin">${sources.map((s) => html`<${Source} source=${s} secret=${row.secret} />`)}</ul>`}
    ${row.help && html`<p class="gap">${row.help}</p>`}<p class="about gap">Type ${typeText(row)}. ${row.key}</p>
    ${env && html`<p class="muted gap">The environment wins. Change <code>${env}</code> in this agent’s environment and restart the agent, or remove it to use the stored value.</p>`}
    <div class="row gap">${!env && !row.secret && html`<${Button} kind="tiny" icon="pen" off=${off} href=${editHref}>Change</${Button}>`}
      ${row.secret && html`<${Button} kind="tiny" icon="key" href=${href(['services', model.name, 'secrets'])}>Secrets of this service</${Button}>`}
      <${Button} kind="quiet tiny" icon="clock" href=${href(['services', model.name, 'history'], { key: row.key })}>History of this key</${Button}>
      ${!row.secret && html`<${Copy} text=${curl}>Copy as curl</${Copy}>`}</div>`}</div>`;
}

function nest(path, value) {
  return [...path].reverse().reduce((inner, name) => Object.fromEntries([[name, inner]]), value);
}

/** FieldRead is one row. `open` shows at once where its value is from, and `target` brings it into sight. */
export function FieldRead({ model, row, off, open }) {
  const [more, setMore] = useState(open);
  const origin = originOf(model, row);
  const id = `m-${row.key}`;
  useEffect(() => {
    if (!open) return;
    setMore(true);
    document.getElementById(`f-${row.key}`)?.scrollIntoView({ block: 'center' });
    document.querySelector(`[aria-controls="${CSS.escape(id)}"]`)?.focus({ preventScroll: true });
  }, [open]);
  const hidden = !row.secret && masked(model.origins.get(row.key)?.winner);
  const faint = origin.kind === 'default' || origin.kind === 'unset';
  return html`<div class=${`field${isSet(model, row) ? ' diff' : ''}`} id=${`f-${row.key}`}>
    <div><button type="button" class="key" aria-expanded=${String(more)} aria-controls=${id} onClick=${() => setMore(!more)}>${row.key}</button>${row.description && html`<div class="about">${row.description}</div>`}</div>
    <div class=${`val${faint ? ' default' : ''}`}>${origin.kind === 'unset' ? 'not set' : hidden ? html`<span class="muted">not shown</span>` : html`<${Value} value=${origin.value} secret=${row.secret} />`}</div>
    <div class="src"><${Origin} origin=${origin} /></div>
    <${More} model=${model} row=${row} id=${id} hidden=${!more} off=${off} editHref=${href(['services', model.name], { edit: row.key })} /></div>`;
}
