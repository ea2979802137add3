// What a new schema changes. Which stored values it refuses is the API's answer to
// validate; this module puts the answer into rows, and says what changed in words.
import { parseJSON } from './fields.js';
import { equal, flatten, show } from './profiles.js';

const plain = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);
const quoted = (n) => (n.includes('.') || n === '' ? JSON.stringify(n) : n);

// resolve follows references within the document, and the "anyOf X or null" of Pydantic.
function resolve(root, node, depth = 0) {
  if (!plain(node) || depth > 16) return {};
  if (typeof node.$ref === 'string' && node.$ref.startsWith('#/')) {
    let at = root;
    for (const p of node.$ref.slice(2).split('/')) at = at?.[p.replaceAll('~1', '/').replaceAll('~0', '~')];
    return { ...resolve(root, at, depth + 1), ...Object.fromEntries(Object.entries(node).filter(([k]) => k !== '$ref')) };
  }
  const some = node.anyOf ?? node.oneOf;
  if (Array.isArray(some)) {
    const rest = some.filter((s) => s?.type !== 'null');
    if (rest.length === 1) {
      const only = resolve(root, rest[0], depth + 1);
      return { ...only, ...node, anyOf: undefined, oneOf: undefined, nullable: some.length > 1 };
    }
  }
  return node;
}

const range = (lo, hi, above, below) => {
  const low = lo !== undefined ? `${lo}` : above !== undefined ? `above ${above}` : '';
  const high = hi !== undefined ? `${hi}` : below !== undefined ? `below ${below}` : '';
  if (lo !== undefined && hi !== undefined) return `${lo} to ${hi}`;
  if (low && high) return `${lo !== undefined ? `at least ${lo}` : low}, ${hi !== undefined ? `at most ${hi}` : high}`;
  if (low) return lo !== undefined ? `at least ${lo}` : low;
  if (high) return hi !== undefined ? `at most ${hi}` : high;
  return '';
};

// fieldsOf reads the fields of a schema: enough to say what changed, not to judge values.
export function fieldsOf(schema, node = schema, prefix = '', out = new Map(), depth = 0) {
  const at = resolve(schema, node);
  const required = new Set(Array.isArray(at.required) ? at.required : []);
  for (const [name, raw] of Object.entries(plain(at.properties) ? at.properties : {})) {
    const f = resolve(schema, raw), key = prefix + quoted(name);
    if (plain(f.properties) && depth < 16) { fieldsOf(schema, f, key + '.', out, depth + 1); continue; }
    const types = [].concat(f.type ?? (f.enum ? 'enum' : 'any')).concat(f.nullable ? ['null'] : []);
    out.set(key, {
      type: [...new Set(types)].join(' or '),
      allowed: Array.isArray(f.enum) ? f.enum.map(show).join(' | ')
        : [range(f.minimum, f.maximum, f.exclusiveMinimum, f.exclusiveMaximum), f.pattern ? `pattern ${f.pattern}` : '',
          f.minLength !== undefined || f.maxLength !== undefined ? `${range(f.minLength, f.maxLength)} characters` : ''].filter(Boolean).join(', '),
      default: f.default, hasDefault: Object.hasOwn(f, 'default'), required: required.has(name) && !Object.hasOwn(f, 'default'),
    });
  }
  return out;
}

// describe is a field in one line: "integer, 1 to 10, default 5".
export function describe(f) {
  return [f.type, f.allowed, f.hasDefault ? `default ${show(f.default)}` : f.required ? 'required' : ''].filter(Boolean).join(', ');
}

// compare says what a new schema adds, changes and removes.
export function compare(before, after) {
  const old = fieldsOf(before), fresh = fieldsOf(after);
  const added = [], changed = [], removed = [];
  for (const [key, f] of fresh) {
    const was = old.get(key);
    if (!was) { added.push({ key, text: describe(f) }); continue; }
    const what = [];
    if (was.type !== f.type) what.push(`${f.type}, was ${was.type}`);
    if (was.allowed !== f.allowed) what.push(`${f.allowed || 'any'}, was ${was.allowed || 'any'}`);
    if (was.hasDefault !== f.hasDefault || !equal(was.default, f.default)) {
      what.push(`default ${f.hasDefault ? show(f.default) : 'none'}, was ${was.hasDefault ? show(was.default) : 'none'}`);
    }
    if (was.required !== f.required) what.push(f.required ? 'required now' : 'optional now');
    if (what.length > 0) changed.push({ key, text: what.join('; ') });
  }
  for (const key of old.keys()) if (!fresh.has(key)) removed.push({ key, text: '' });
  return { added, changed, removed };
}

// broken are the values that the new schema refuses, from the details of a 422.
export function broken(details, stored, schema) {
  const values = flatten(stored), fields = fieldsOf(schema);
  return (details ?? []).map((d) => ({
    key: d.key, message: d.message, has: values.has(d.key), value: values.get(d.key), field: fields.get(d.key),
  }));
}

// parsed reads what somebody typed for a field, by the field's type. What is not of the
// type stays text: the API says what is wrong with it.
export function parsed(text, field) {
  const types = (field?.type ?? '').split(' or ');
  if (types.includes('null') && text.trim() === 'null') return null;
  if (types.some((t) => t === 'string' || t === 'enum')) return text;
  try { return JSON.parse(text); } catch { return text; }
}

const path = (key) => [...key.matchAll(/"(?:[^"\\]|\\.)*"|[^.]+/g)].map(([p]) => (p.startsWith('"') ? JSON.parse(p) : p));

// withValue is a document with one key set, or without it.
export function withValue(doc, key, value) {
  const [first, ...rest] = path(key), out = { ...doc };
  if (rest.length > 0) {
    const inner = withValue(plain(out[first]) ? out[first] : {}, rest.map(quoted).join('.'), value);
    if (value === undefined && Object.keys(inner).length === 0) delete out[first];
    else out[first] = inner;
  } else if (value === undefined) delete out[first];
  else out[first] = value;
  return out;
}

// read takes the text of a file. Its error names the line and the column.
export function read(text) {
  const { value, error } = parseJSON(text);
  if (error) return { error };
  return plain(value) ? { schema: value } : { error: 'a schema is a JSON object' };
}

// allowed is what an API field allows, in words.
export function allowed(f) {
  if (f.validation_allowed?.length > 0) return f.validation_allowed.slice(0, 12).join(' | ') + (f.validation_allowed.length > 12 ? ` and ${f.validation_allowed.length - 12} more` : '');
  const r = range(f.validation_min ?? undefined, f.validation_max ?? undefined);
  return [r, f.validation_pattern ? `pattern ${f.validation_pattern}` : ''].filter(Boolean).join(', ');
}

// typeOf is an API field's type, with what else it may be.
export function typeOf(f) {
  return (f.json_types ?? []).includes('null') ? `${f.type} or null` : f.type;
}
