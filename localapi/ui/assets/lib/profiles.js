// What profiles hold, beside what the services have now. Activating a profile replaces
// the stored values of its services: a key that it does not name returns to its default.

const plain = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);
const named = (n) => (n.includes('.') || n === '' ? JSON.stringify(n) : n);

// flatten gives a document's values by dotted key. An empty object is a value of its own.
export function flatten(doc, prefix = '', out = new Map()) {
  for (const [name, v] of Object.entries(doc ?? {})) {
    const key = prefix + named(name);
    if (plain(v) && Object.keys(v).length > 0) flatten(v, key + '.', out);
    else out.set(key, v);
  }
  return out;
}

// equal compares JSON values; the order of members means nothing.
export function equal(a, b) {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((v, i) => equal(v, b[i]));
  if (!plain(a) || !plain(b)) return false;
  const ka = Object.keys(a), kb = Object.keys(b);
  return ka.length === kb.length && ka.every((k) => Object.hasOwn(b, k) && equal(a[k], b[k]));
}

// show is a value in one line, as the command line prints it.
export function show(v) {
  if (v === undefined) return 'no value';
  return typeof v === 'string' && v !== '' ? v : JSON.stringify(v);
}

// changes lists the keys that differ between two effective documents.
export function changes(before, after) {
  const old = flatten(before), fresh = flatten(after), out = [];
  for (const key of new Set([...old.keys(), ...fresh.keys()])) {
    if (!equal(old.get(key), fresh.get(key))) out.push({ key, old: old.get(key), new: fresh.get(key) });
  }
  return out.sort((a, b) => (a.key < b.key ? -1 : 1));
}

// defaultsOf gives the defaults of a schema's fields by dotted key; that of an object is one for each member.
export function defaultsOf(fields) {
  const out = new Map();
  for (const f of fields ?? []) {
    if (f.default === undefined) continue;
    if (plain(f.default) && Object.keys(f.default).length > 0) flatten(f.default, `${f.key}.`, out);
    else out.set(f.key, f.default);
  }
  return out;
}

// cell is what a profile gives a key of a service.
function cell(values, key, now, fallback) {
  if (values === undefined) return { held: false, differs: false };
  if (values.has(key)) {
    const value = values.get(key);
    return { held: true, value, differs: !equal(value, now) };
  }
  return { held: true, byDefault: true, value: fallback, differs: !equal(fallback, now) };
}

// grid compares profiles with the values of now. current and defaults are by service:
// effective documents, and Maps of the schemas' defaults by dotted key.
export function grid(profiles, current, defaults) {
  const services = [...new Set(profiles.flatMap((p) => Object.keys(p.services)))].sort();
  return services.map((service) => {
    const now = flatten(current[service]), base = defaults[service] ?? new Map();
    const held = profiles.map((p) => (Object.hasOwn(p.services, service) ? flatten(p.services[service]) : undefined));
    const keys = new Set([...now.keys(), ...held.flatMap((h) => [...(h?.keys() ?? [])])]);
    const rows = [...keys].sort().map((key) => {
      const cells = held.map((h) => cell(h, key, now.get(key), base.get(key)));
      return { key, now: now.get(key), cells, differs: cells.some((c) => c.differs), held: held.some((h) => h?.has(key)) };
    });
    return { service, exists: current[service] !== undefined, rows };
  });
}

// differing counts the keys of each profile that differ from now.
export function differing(rows, column) {
  return rows.reduce((n, g) => n + g.rows.filter((r) => r.cells[column].differs).length, 0);
}

// holds says how much is in a profile.
export function holds(profile) {
  const services = Object.values(profile.services);
  const values = services.reduce((n, s) => n + flatten(s).size, 0);
  return `${services.length} ${services.length === 1 ? 'service' : 'services'}, ${values} ${values === 1 ? 'value' : 'values'}`;
}

// named profiles follow the same rule as the server's.
export const validName = (name) => /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/.test(name);
