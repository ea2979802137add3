import assert from 'node:assert/strict';
import test from 'node:test';
import { apply, merge, rebase } from '../assets/lib/merge.js';

const pathOf = (key) => key.split('.');
const kinds = (rows) => Object.fromEntries(rows.map((row) => [row.key, row.kind]));

test('disjoint keys merge by themselves', () => {
  const base = { vad: 0.6, model: 'small' };
  const theirs = { vad: 0.55, silence: 650, model: 'small' };
  const draft = { model: { to: 'medium' }, partials: { to: true } };
  const rows = merge(base, theirs, draft, pathOf);
  assert.deepEqual(kinds(rows), { silence: 'theirs', vad: 'theirs', model: 'mine', partials: 'mine' });
  const next = rebase(draft, rows);
  assert.deepEqual(next.open, []);
  assert.deepEqual(apply(theirs, next.draft, pathOf), { vad: 0.55, silence: 650, model: 'medium', partials: true });
});

test('the same key with two values needs a decision', () => {
  const draft = { vad: { to: 0.7 } };
  const rows = merge({ vad: 0.6 }, { vad: 0.55 }, draft, pathOf);
  assert.deepEqual(rows[0], { key: 'vad', path: ['vad'], base: 0.6, theirs: 0.55, mine: 0.7, kind: 'conflict' });
  assert.deepEqual(rebase(draft, rows).open, ['vad']);
  assert.deepEqual(rebase(draft, rows, { vad: 'theirs' }), { draft: {}, open: [] });
  assert.deepEqual(rebase(draft, rows, { vad: 'mine' }), { draft, open: [] });
  assert.deepEqual(rebase(draft, rows, { vad: { to: 0.65 } }).draft, { vad: { to: 0.65 } });
});

test('what both made the same is no conflict, and leaves the draft', () => {
  const draft = { vad: { to: 0.55 }, gone: { remove: true } };
  const rows = merge({ vad: 0.6, gone: 1 }, { vad: 0.55 }, draft, pathOf);
  assert.deepEqual(kinds(rows), { vad: 'same', gone: 'same' });
  assert.deepEqual(rebase(draft, rows).draft, {});
});

test('a return to the default against a new value is a conflict', () => {
  assert.equal(merge({ vad: 0.6 }, { vad: 0.55 }, { vad: { remove: true } }, pathOf)[0].kind, 'conflict');
  assert.equal(merge({ vad: 0.6 }, {}, { vad: { to: 0.7 } }, pathOf)[0].kind, 'conflict');
  assert.equal(merge({}, {}, { vad: { to: null } }, pathOf)[0].kind, 'mine', 'null is a value');
});

test('an object that one side replaced meets its members', () => {
  const rows = merge({ retry: { a: 1, b: 2 } }, { retry: { a: 9, b: 2 } }, { retry: { to: { a: 3 } } }, pathOf);
  assert.deepEqual(kinds(rows), { retry: 'conflict' });
  assert.deepEqual(rows[0].theirs, { a: 9, b: 2 });
  const below = merge({ retry: 1 }, { retry: 2 }, { 'retry.a': { to: 3 } }, pathOf);
  assert.deepEqual(kinds(below), { 'retry.a': 'conflict' });
});

test('applying a draft leaves what it does not name', () => {
  assert.deepEqual(apply({ a: 1, n: { x: 1, y: 2 } }, { 'n.x': { remove: true }, 'n.z': { to: null } }, pathOf), { a: 1, n: { y: 2, z: null } });
});
