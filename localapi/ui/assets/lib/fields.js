// The schema of a service as rows: what a form draws. The agent lists the fields (it decides what
// one is); the schema itself has the bounds, the texts and the order.
import { count, number } from './format.js';
import { equal, get, isObject } from './values.js';

/** rowsOf makes rows of the answer of GET schemas/{service}; none when there is nothing to draw. */
export function rowsOf(answer) {
  const schema = answer?.schema;
  const rows = (answer?.fields || []).map((field) => rowOf(field, schema));
  // Simple ones first; in each part a nested object stays together.
  const simple = (row) => (row.advanced ? 1 : 0);
  return rows.map((row, i) => [row, i]).sort(([a, i], [b, j]) => simple(a) - simple(b) || i - j).map(([row]) => row);
}

function rowOf(field, schema) {
  const path = field.path || field.key.split('.');
  const at = locate(schema, path);
  const given = field.json_types || typesOf(at.node, field.type), types = new Set(given);
  const nullable = types.delete('null');
  const node = at.node;
  const row = {
    key: field.key, path, type: field.type, types: given, advanced: field.complexity === 'advanced', description: field.description || '', help: field.help_text || '',
    secret: field.is_secret, secretSource: field.secret_source || null, env: field.env || '', nullable, required: field.required === true,
    default: field.default, hasDefault: Object.hasOwn(field, 'default'), choices: null, min: null, max: null, above: null, below: null, step: node.multipleOf ?? null,
    minLength: node.minLength ?? null, maxLength: node.maxLength ?? null, pattern: field.validation_pattern || node.pattern || '', format: node.format || '',
    minItems: node.minItems ?? null, maxItems: node.maxItems ?? null, items: node.items ? itemsOf(schema, node.items) : '', group: path.length > 1 ? path.slice(0, -1) : null,
    groupText: path.length > 1 ? at.parents.map((p) => p.description || '').filter(Boolean).pop() || '' : '',
  };
  bounds(row, field, node);
  row.choices = choicesOf(field, node);
  row.kind = kindOf(row, types);
  return row;
}

function bounds(row, field, node) {
  if (typeof node.exclusiveMinimum === 'number') row.above = node.exclusiveMinimum;
  else row.min = node.minimum ?? field.validation_min ?? null;
  if (typeof node.exclusiveMaximum === 'number') row.below = node.exclusiveMaximum;
  else row.max = node.maximum ?? field.validation_max ?? null;
}

function choicesOf(field, node) {
  const given = Array.isArray(node.enum) ? node.enum.filter((v) => v !== null) : field.type === 'enum' ? field.validation_allowed : null;
  return given && given.length > 0 && given.every((v) => !isObject(v) && !Array.isArray(v)) ? given : null;
}

function kindOf(row, types) {
  if (row.secret) return 'secret';
  if (row.choices) return 'choice';
  if (types.has('array') || types.has('object')) return 'json';
  if (types.size > 1 && !(types.size === 2 && types.has('integer') && types.has('number'))) return 'json';
  if (row.type === 'boolean') return 'boolean';
  if (row.type === 'integer') return 'integer';
  if (row.type === 'float') return 'float';
  if (row.type === 'path') return 'path';
  if (row.type === 'string') return (row.maxLength ?? 0) > 200 || String(row.default ?? '').length > 60 || String(row.default ?? '').includes('\n') ? 'text' : 'string';
  return 'json';
}

function typesOf(node, type) {
  if (node.type) return [].concat(node.type);
  return { string: ['string'], path: ['string'], secret: ['string'], enum: ['string'], integer: ['integer'], float: ['number'], boolean: ['boolean'] }[type] || [];
}

/** resolve follows $ref, a single allOf and an anyOf with null to what describes the value. */
export function resolve(schema, node, depth = 0) {
  if (!isObject(node) || depth > 20) return {};
  let out = node;
  if (typeof node.$ref === 'string') {
    const target = pointer(schema, node.$ref);
    const { $ref: _, ...own } = node;
    out = { ...resolve(schema, target, depth + 1), ...own };
  }
  if (Array.isArray(out.allOf) && out.allOf.length === 1) out = { ...resolve(schema, out.allOf[0], depth + 1), ...out };
  const either = out.anyOf || out.oneOf;
  if (Array.isArray(either)) {
    const rest = either.filter((o) => !(isObject(o) && o.type === 'null'));
    if (rest.length === 1) out = { ...resolve(schema, rest[0], depth + 1), ...out };
  }
  return out;
}

function pointer(schema, ref) {
  if (!ref.startsWith('#/')) return {};
  return get(schema, ref.slice(2).split('/').map((part) => decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~'))) ?? {};
}

function locate(schema, path) {
  let node = resolve(schema, schema);
  const parents = [];
  for (const [i, name] of path.entries()) {
    if (i > 0) parents.push(node);
    const next = isObject(node.properties) && Object.hasOwn(node.properties, name) ? node.properties[name] : null;
    node = next ? resolve(schema, next) : {};
  }
  return { node, parents };
}

function itemsOf(schema, items) {
  const node = resolve(schema, items);
  const names = { string: 'text', number: 'numbers', integer: 'integers', boolean: 'true or false', object: 'objects', array: 'arrays' };
  return names[node.type] || '';
}

/** drawable tells whether the form can show all of a document: every value belongs to a row. */
export function drawable(rows, config) {
  if (rows.length === 0) return false;
  const paths = new Set(rows.map((row) => JSON.stringify(row.path)));
  return covered(config ?? {}, []);

  function covered(value, path) {
    if (path.length > 0 && paths.has(JSON.stringify(path))) return true;
    if (!isObject(value)) return false;
    return Object.keys(value).every((name) => covered(value[name], [...path, name]));
  }
}

/** suggested are the choices that have a text in them, the first hundred: a browser needs a second a key for thousands. */
export function suggested(choices, text, most = 100) {
  const q = text.toLowerCase(), all = choices.map(String);
  const found = all.includes(text) ? all : all.filter((c) => c.toLowerCase().includes(q));
  return found.slice(0, most);
}

/** limits says what a value must be, in few words: "0 to 2", "1 to 120 characters", "at most 4 items". */
export function limits(row) {
  const out = [];
  if (row.kind === 'json') out.push(row.items ? `JSON array of ${row.items}` : 'JSON');
  const range = (from, to, unit = '') => {
    if (from !== null && to !== null) return `${number(from)} to ${number(to)}${unit}`;
    if (from !== null) return `at least ${number(from)}${unit}`;
    return to !== null ? `at most ${number(to)}${unit}` : '';
  };
  if (row.above === null && row.below === null) out.push(range(row.min, row.max));
  else out.push([row.above !== null ? `above ${number(row.above)}` : row.min !== null ? `at least ${number(row.min)}` : '', row.below !== null ? `below ${number(row.below)}` : row.max !== null ? `at most ${number(row.max)}` : ''].filter(Boolean).join(', '));
  if (row.step !== null) out.push(`a multiple of ${number(row.step)}`);
  if (row.kind !== 'text' || row.minLength !== null) out.push(range(row.minLength, row.maxLength, ' characters'));
  out.push(range(row.minItems, row.maxItems, ' items'));
  if (row.pattern) out.push(`must match ${row.pattern}`);
  if (row.format && !['password', 'path'].includes(row.format)) out.push(row.format);
  if (row.nullable) out.push('or null');
  return out.filter(Boolean);
}

/** typeText names the type for a reader: "float, 0 to 1", "whisper | ws", "string or null". */
export function typeText(row) {
  const choices = row.choices && row.choices.length <= 8 ? row.choices.join(' | ') : row.choices ? `one of ${count(row.choices.length, 'value')}` : '';
  const name = choices || (row.kind === 'json' ? 'JSON' : row.type);
  return [name, ...limits(row).filter((l) => !l.startsWith('JSON'))].join(', ').replace(', or null', ' or null');
}

/** format gives the text of a value for its control. */
export function format(row, value) {
  if (value === undefined || value === null) return '';
  if (row.kind === 'json') return JSON.stringify(value, null, JSON.stringify(value).length > 60 ? 2 : 0);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** parse reads what was typed: {value} or {error}. The agent validates; this only finds what is no value at all. */
export function parse(row, text) {
  switch (row.kind) {
    case 'integer':
    case 'float': {
      const t = text.trim();
      if (t === '') return { error: 'enter a number' };
      if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(t)) return { error: 'is not a number' };
      const n = Number(t);
      if (!Number.isFinite(n)) return { error: 'is too large' };
      if (row.kind === 'integer' && !Number.isInteger(n)) return { error: 'must be a whole number' };
      if (Number.isInteger(n) && !Number.isSafeInteger(n)) return { error: 'must be below 2^53' };
      return { value: n };
    }
    case 'json':
      return parseJSON(text);
    case 'choice': {
      const found = row.choices.find((c) => String(c) === text);
      return { value: found === undefined ? text : found };
    }
    default:
      return { value: text };
  }
}

/** parseJSON names the line and the column of a mistake. */
export function parseJSON(text) {
  if (text.trim() === '') return { error: 'enter JSON' };
  try {
    return { value: JSON.parse(text) };
  } catch {
    const at = mistakeIn(text);
    return { error: `is not JSON (${place(text, at)}): ${at >= text.trimEnd().length ? 'it ends too early' : `unexpected ${JSON.stringify([...text.slice(at)][0])}`}` };
  }
}

// mistakeIn gives the first position at which no JSON can continue. Browsers word their own
// messages differently, and some of them leave the position out.
function mistakeIn(text) {
  const token = /[ \t\r\n]*(?:([{}[\]:,])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])|(?:true|false|null)(?!\w))/y;
  const open = [];
  let want = 'value'; // or "value or ]", "key or }", "key", ":", "next", "end"
  let at = 0;
  for (;;) {
    token.lastIndex = at;
    const found = token.exec(text);
    const start = at + /^[ \t\r\n]*/.exec(text.slice(at))[0].length;
    if (!found) return start;
    const [, mark, string] = found;
    if (want === 'end') return start;
    if (want.startsWith('key')) {
      if (mark === '}' && want === 'key or }') want = close();
      else if (string) want = ':';
      else return start;
    } else if (want === ':') {
      if (mark !== ':') return start;
      want = 'value';
    } else if (want === 'next') {
      const inside = open[open.length - 1];
      if (mark === ',') want = inside === '{' ? 'key' : 'value';
      else if (mark === (inside === '{' ? '}' : ']')) want = close();
      else return start;
    } else if (mark === '{' || mark === '[') {
      open.push(mark);
      want = mark === '{' ? 'key or }' : 'value or ]';
    } else if (mark === ']' && want === 'value or ]') {
      want = close();
    } else if (mark) {
      return start;
    } else {
      want = open.length > 0 ? 'next' : 'end';
    }
    at = token.lastIndex;
  }

  function close() {
    open.pop();
    return open.length > 0 ? 'next' : 'end';
  }
}

function place(text, position) {
  const before = text.slice(0, position).split('\n');
  return `line ${before.length}, column ${before[before.length - 1].length + 1}`;
}

/** differs tells whether a stored value is another one than the default. */
export function differs(row, value) {
  return value !== undefined && !(row.hasDefault && equal(value, row.default));
}
