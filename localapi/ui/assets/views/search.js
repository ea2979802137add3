// Keys, values and descriptions of all services; a result opens its field.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at, withQuery } from '../lib/api.js';
import { clipped, count, number } from '../lib/format.js';
import { href } from '../lib/router.js';
import { Failure, Ghost, Seg, Time } from '../components/basic.js';
import { useApp, useData, useTitle } from '../components/context.js';

const page = 200;
const types = ['string', 'integer', 'float', 'boolean', 'enum', 'path', 'secret'];

/** Marked is a text with what was searched for marked. */
function Marked({ text, q }) {
  if (q === '') return html`${text}`;
  const out = [];
  const low = text.toLowerCase();
  if (low.length !== text.length) return html`${text}`; // letters whose small form is longer
  for (let at = 0; at < text.length;) {
    const found = low.indexOf(q.toLowerCase(), at);
    if (found < 0) {
      out.push(text.slice(at));
      break;
    }
    out.push(text.slice(at, found), html`<mark>${text.slice(found, found + q.length)}</mark>`);
    at = found + q.length;
  }
  return out;
}

function valueOf(result) {
  if (result.is_secret) return '••••••••';
  try {
    return clipped(JSON.parse(result.value_json));
  } catch {
    return clipped(result.value_json);
  }
}

/** Hit is a field; its winner is undefined while it is not known. */
function Hit({ result, q, winner }) {
  const set = winner !== null && winner?.source !== 'default';
  return html`<li><a class=${`field hit${set && winner ? ' diff' : ''}`} href=${href(['services', result.service], { key: result.key })}>
    <span><span class="key"><${Marked} text=${result.key} q=${q} /></span><span class="about"><${Marked} text=${result.description} q=${q} /></span></span>
    <span class=${`val${set ? '' : ' default'}`}><${Marked} text=${valueOf(result)} q=${q} /></span>
    <span class="src">${winner?.source === 'env' ? `environment ${winner.env}` : winner?.source === 'database' ? html`v${winner.version} ${winner.updated_by}, <${Time} at=${winner.updated_at} />` : winner === null ? 'not set' : winner ? 'default' : ''}<br />${result.type}, ${result.complexity}</span></a></li>`;
}

// The search does not tell a default from what somebody set: where a value is from is asked for the first services.
async function origins(api, results) {
  const names = [...new Set(results.map((r) => r.service))].slice(0, 12);
  const answers = await Promise.all(names.map((name) => api.get(withQuery(at`services/${name}`, { explain: 1 })).catch(() => null)));
  return new Map(answers.flatMap((answer) => (answer?.fields || []).map((f) => [`${answer.service} ${f.key}`, f.winner])));
}

export function Search({ route, shared }) {
  const { api, go, say } = useApp();
  const q = route.query.get('q') || '';
  const filters = { type: route.query.get('type') || '', level: route.query.get('level') || '', service: route.query.get('service') || '' };
  const [where, setWhere] = useState('all');
  const body = { query: q, limit: page, type_filter: filters.type || null, complexity_filter: filters.level || null, service_filter: filters.service || null };
  const { data, error, late, reload } = useData(() => api.post('/api/config/search', body), [JSON.stringify(body)]);
  useTitle(q ? `Search ${q}` : 'Search');
  const has = (text) => String(text).toLowerCase().includes(q.toLowerCase());
  const tests = { all: () => true, keys: (r) => has(r.key), values: (r) => !r.is_secret && has(r.value_json), descriptions: (r) => has(r.description) || has(r.help_text) };
  const results = data?.results || [];
  const { data: winners } = useData(async () => origins(api, results), [data]);
  const shown = results.filter(tests[where]);
  const groups = new Map();
  for (const r of shown) groups.set(r.service, [...(groups.get(r.service) || []), r]);
  useEffect(() => {
    if (data) say(`${count(data.total, 'field')} found`);
  }, [data]);
  const set = (change) => go(href(['search'], { q, ...filters, ...change }));
  const select = (id, label, value, none, list) => html`<label class="sr" for=${id}>${label}</label><select id=${id} onChange=${(e) => set({ [id]: e.target.value })}><option value="" selected=${value === ''}>${none}</option>${list.map((o) => html`<option value=${o} selected=${o === value}>${o}</option>`)}</select>`;
  const places = [['all', 'Everything'], ['keys', 'Keys'], ['values', 'Values'], ['descriptions', 'Descriptions']].map(([value, label]) => ({ value, label: value === 'all' ? label : `${label} ${results.filter(tests[value]).length}` }));
  const services = new Set(results.map((r) => r.service));
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>${data ? html`${count(data.total, 'field')} of ${count(services.size, 'service')} ${data.total === 1 ? 'matches' : 'match'} “${q}”` : html`Search “${q}”`}</h1></div><p class="opt muted"><kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> opens the field</p></div>
    <div class="tools"><${Seg} label="Look in" value=${where} options=${places} onChange=${setWhere} />${select('type', 'Type', filters.type, 'Any type', types)}${select('level', 'Complexity', filters.level, 'Simple and advanced', ['simple', 'advanced'])}
      ${select('service', 'Service', filters.service, 'All services', (shared.services || []).map((s) => s.service).slice(0, 200))}</div>
    ${error && html`<${Failure} error=${error} what="The search failed." retry=${reload} />`}${late && html`<${Ghost} />`}
    ${[...groups].map(([service, list]) => html`<section class="panel" key=${service}><header><h2>${service}</h2><span class="muted push">${list.length}</span></header><ul class="fields">${list.map((r) => html`<${Hit} key=${r.key} result=${r} q=${q} winner=${winners?.get(`${r.service} ${r.key}`)} />`)}</ul></section>`)}
    ${data && data.total > results.length && html`<p class="muted">The first ${number(results.length)} of ${number(data.total)} are shown. More words find fewer.</p>`}
    ${data && data.total === 0 && html`<p class="muted">Nothing has “${q}” in its key, value or description.</p>`}</main>`;
}
