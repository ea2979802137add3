// What a view of one service shows, made of the answers of the admin API.
import { at, outages, withQuery } from './api.js';
import { differs, drawable, rowsOf } from './fields.js';
import { get } from './values.js';

const absent = (error) => {
  if (error.status === 404) return null;
  throw error;
};

// The history is in the database alone: the values are shown without it while that cannot be asked.
const unread = (error) => {
  if (outages.has(error.code) && error.code !== 'unreachable') return [];
  throw error;
};

/** readService reads the service with its schema, the origin of each value and its last changes. */
export async function readService(api, name) {
  const [schema, doc, stored, explain, history] = await Promise.all([
    api.get(at`schemas/${name}`).catch(absent), api.get(at`services/${name}`), api.get(withQuery(at`services/${name}`, { values: 'stored' })),
    api.get(withQuery(at`services/${name}`, { explain: 1 })).catch(absent), readHistory(api, name, { limit: 300 }).catch(unread),
  ]);
  const rows = rowsOf(schema);
  const origins = new Map((explain?.fields || []).map((f) => [f.key, f]));
  const { metadata } = doc;
  return {
    name, schema, rows, origins, history, version: metadata.version, epoch: metadata.config_epoch, changedAt: metadata.updated_at, changedBy: metadata.updated_by,
    config: doc.config, stored: stored.config, description: schema?.schema?.description || '', reasons: reasonsOf(history), drawable: drawable(rows, doc.config), secrets: rows.filter((r) => r.secret).map((r) => r.key),
  };
}

/** readHistory gives the changes of a service, newest first. */
export async function readHistory(api, name, query = {}) {
  return (await api.get(withQuery(at`history`, { service: name, ...query }))).results;
}

/** readStored gives the stored values of one version. */
export async function readStored(api, name, version) {
  return (await api.get(withQuery(at`services/${name}`, { values: 'stored', version }))).config;
}

function reasonsOf(history) {
  const out = new Map();
  for (const change of history) if (!out.has(change.version)) out.set(change.version, change.change_reason);
  return out;
}

/** since lists who made each version after `version`, newest first: [{version, by, at, reason, keys}]. */
export function since(history, version) {
  return versionsOf(history).filter((v) => v.version > version);
}

/** versionsOf groups changes by the version that they made, newest first. */
export function versionsOf(history) {
  const out = new Map();
  for (const change of history) {
    if (!out.has(change.version)) out.set(change.version, { version: change.version, by: change.changed_by, at: change.changed_at, reason: change.change_reason, action: change.action, changes: [] });
    out.get(change.version).changes.push(change);
  }
  return [...out.values()].sort((a, b) => b.version - a.version).map((v) => ({ ...v, keys: v.changes.map((c) => c.key).sort() }));
}

/** effectiveOf is the value of a row under given stored values: what is stored, else the default. */
export function effectiveOf(row, stored) {
  const value = get(stored, row.path);
  return value === undefined ? row.default : value;
}

/** originOf says where the value of a row is from: {kind, value, version, by, at, reason, env}. */
export function originOf(model, row) {
  const winner = model.origins.get(row.key)?.winner ?? null;
  if (!winner) return { kind: row.secret ? 'unset' : 'default', value: get(model.config, row.path) };
  const from = { value: winner.value, version: winner.version, by: winner.updated_by, at: winner.updated_at, env: winner.env, reason: model.reasons.get(winner.version) || '' };
  if (winner.source === 'env') return { ...from, kind: 'env' };
  return { ...from, kind: winner.source === 'database' ? 'stored' : 'default' };
}

/** masked tells whether the agent keeps a value to itself: that of a variable of its environment. */
export function masked(source) {
  return source?.source === 'env' && source.value === '********';
}

/** isSet tells whether somebody set another value than the default. */
export function isSet(model, row) {
  const origin = originOf(model, row);
  return origin.kind === 'env' || (origin.kind === 'stored' && (row.secret || differs(row, origin.value)));
}

/** pathOf gives the path of a key of this service; a key without a row is read by its dots. */
export function pathOf(rows) {
  const known = new Map(rows.map((row) => [row.key, row.path]));
  return (key) => known.get(key) ?? splitKey(key);
}

/** splitKey reads a dotted key; a name in quotes may have dots. */
export function splitKey(key) {
  const out = [];
  for (const [, quoted, plain] of key.matchAll(/("(?:[^"\\]|\\.)*")|([^."]+)/g)) {
    try {
      out.push(quoted ? JSON.parse(quoted) : plain);
    } catch {
      out.push(quoted);
    }
  }
  return out;
}

/** wholeOf are the keys whose value is one value although it may be an object. */
export function wholeOf(rows) {
  return new Set(rows.filter((row) => row.kind === 'json').map((row) => row.key));
}
