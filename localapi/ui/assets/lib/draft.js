// Drafts: what was typed and is not saved yet, in this tab (sessionStorage). One for each service:
// {base: version, changes: {key: {to} or {remove: true}}, reason, at}, and `json`, the whole text, where
// there is no form. Secrets never get here: callers pass the keys that are secret, and those are dropped.

import { parseJSON } from './fields.js';
import { drop, get, isObject } from './values.js';

const prefix = 'holdfast.draft.';

function storage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // the browser forbids it: drafts then last as long as the page
  }
}

/** readDraft gives the draft of a service, or null. */
export function readDraft(service, store = storage()) {
  try {
    const draft = JSON.parse(store?.getItem(prefix + service) ?? 'null');
    if (!draft || typeof draft.base !== 'number' || typeof draft.changes !== 'object' || draft.changes === null) return null;
    return draft;
  } catch {
    return null;
  }
}

/** writeDraft keeps a draft without its secrets; one without changes is dropped. False when there is no room. */
export function writeDraft(service, draft, secrets = [], store = storage()) {
  const hidden = new Set(secrets);
  const changes = Object.fromEntries(Object.entries(draft.changes).filter(([key]) => !hidden.has(key)));
  if (Object.keys(changes).length === 0 && draft.json === undefined) {
    dropDraft(service, store);
    return true;
  }
  try {
    store?.setItem(prefix + service, JSON.stringify({ ...draft, changes }));
    return store !== null;
  } catch {
    return false; // over the quota
  }
}

/**
 * withoutSecrets gives {text, hid} of a document as text: without the values at `secrets` (paths), whose
 * keys are in hid. text is null for what is no JSON yet and names a secret: its value cannot be told apart.
 */
export function withoutSecrets(text, secrets) {
  const { value } = parseJSON(text);
  if (isObject(value)) {
    const there = secrets.filter((path) => get(value, path) !== undefined);
    return there.length === 0 ? { text, hid: [] } : { text: JSON.stringify(there.reduce(drop, value), null, 2), hid: there.map((path) => path.join('.')) };
  }
  const named = text.includes('\\u') || secrets.some((path) => text.includes(path.at(-1)));
  return { text: named && secrets.length > 0 ? null : text, hid: [] };
}

export function dropDraft(service, store = storage()) {
  try {
    store?.removeItem(prefix + service);
  } catch {
    // nothing was kept
  }
}

/** drafts gives the services that have a draft in this tab. */
export function drafts(store = storage()) {
  try {
    return Object.keys(store ?? {}).filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length)).sort();
  } catch {
    return [];
  }
}
