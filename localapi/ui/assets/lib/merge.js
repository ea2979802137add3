// Three versions of the same values: the one a draft was made from (base), what others saved since
// (theirs), and the draft (mine). Keys that only one side changed merge by themselves.
import { changes } from './diff.js';
import { drop, equal, get, put } from './values.js';

/** wanted is what a change of a draft makes of a key: its value, or undefined for "the default". */
export function wanted(change) {
  return change.remove ? undefined : change.to;
}

/** apply makes the stored values that a draft would save. `pathOf` gives the path of a key. */
export function apply(stored, draft, pathOf) {
  let out = stored;
  for (const [key, change] of Object.entries(draft)) {
    const path = pathOf(key);
    out = change.remove ? drop(out, path) : put(out, path, change.to);
  }
  return out;
}

/**
 * merge compares by key: [{key, path, base, theirs, mine, kind}]. kind is "theirs" (only they
 * changed it), "mine", "same" (both made it the same) or "conflict". Stored values are compared,
 * so undefined means "the default".
 */
export function merge(base, theirs, draft, pathOf, whole = new Set()) {
  const rows = new Map();
  const names = Object.keys(draft);
  for (const change of changes(base, theirs, new Set([...whole, ...names]))) {
    // A key of the draft that lies above or below a changed one is the same place.
    const near = names.find((key) => key !== change.key && overlaps(pathOf(key), change.path));
    const key = near ?? change.key;
    if (rows.has(key)) continue;
    const path = near ? pathOf(near) : change.path;
    rows.set(key, { key, path, base: get(base, path), theirs: get(theirs, path), mine: get(base, path), kind: 'theirs' });
  }
  for (const key of names) {
    const path = pathOf(key);
    const mine = wanted(draft[key]);
    const row = rows.get(key);
    if (!row) {
      rows.set(key, { key, path, base: get(base, path), theirs: get(theirs, path), mine, kind: 'mine' });
      continue;
    }
    row.mine = mine;
    row.kind = equal(row.theirs, mine) ? 'same' : 'conflict';
  }
  const order = { conflict: 0, theirs: 1, mine: 2, same: 3 };
  return [...rows.values()].sort((a, b) => order[a.kind] - order[b.kind] || (a.key < b.key ? -1 : 1));
}

function overlaps(a, b) {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return short.every((name, i) => name === long[i]);
}

/**
 * rebase carries a draft over to their version. `decided` has for each conflict "theirs", "mine" or
 * {to}; a change that their version already has is dropped. `open` are the conflicts left.
 */
export function rebase(draft, rows, decided = {}) {
  const next = { ...draft };
  const open = [];
  for (const row of rows) {
    if (row.kind === 'same') delete next[row.key];
    if (row.kind !== 'conflict') continue;
    const choice = decided[row.key];
    if (choice === undefined) open.push(row.key);
    else if (choice === 'theirs') delete next[row.key];
    else if (choice !== 'mine') next[row.key] = choice;
  }
  return { draft: next, open };
}
