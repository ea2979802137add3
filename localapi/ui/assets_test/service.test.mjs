import assert from 'node:assert/strict';
import test from 'node:test';
import { effectiveOf, isSet, originOf, pathOf, since, splitKey, versionsOf } from '../assets/lib/service.js';

const change = (version, key, by = 'ann', reason = 'why') => ({ version, key, changed_by: by, changed_at: '2026-01-01T00:00:00Z', change_reason: reason, action: 'put', old_value: 1, new_value: 2 });
const row = (more) => ({ key: 'a', path: ['a'], hasDefault: true, default: 1, secret: false, ...more });
const model = (origin, more) => ({ origins: new Map([['a', origin]]), reasons: new Map([[3, 'because']]), config: { a: 1 }, ...more });

test('changes of one version belong together', () => {
  const list = versionsOf([change(8, 'b'), change(8, 'a'), change(7, 'c', 'ci')]);
  assert.deepEqual(list.map((v) => [v.version, v.by, v.keys]), [[8, 'ann', ['a', 'b']], [7, 'ci', ['c']]]);
  assert.deepEqual(since([change(8, 'a'), change(7, 'c')], 7).map((v) => v.version), [8]);
});

test('the origin of a value has who, when and why', () => {
  const origin = originOf(model({ winner: { source: 'database', value: 2, version: 3, updated_by: 'ann', updated_at: 't' }, shadows: [] }), row());
  assert.deepEqual([origin.kind, origin.version, origin.by, origin.at, origin.reason], ['stored', 3, 'ann', 't', 'because']);
  assert.equal(originOf(model({ winner: { source: 'env', value: 2, env: 'A' }, shadows: [] }), row()).env, 'A');
  assert.equal(originOf(model({ winner: null, shadows: [] }), row({ secret: true })).kind, 'unset');
});

test('a stored value that is the default does not count as set', () => {
  const stored = (value) => model({ winner: { source: 'database', value, version: 3 }, shadows: [] });
  assert.equal(isSet(stored(1), row()), false);
  assert.equal(isSet(stored(2), row()), true);
  assert.equal(isSet(model({ winner: { source: 'env', value: 1, env: 'A' }, shadows: [] }), row()), true);
});

test('a value is what is stored, else the default; null is a value', () => {
  assert.equal(effectiveOf(row(), {}), 1);
  assert.equal(effectiveOf(row(), { a: null }), null);
});

test('keys are read as they are spelled', () => {
  assert.deepEqual(splitKey('labels."app.name".x'), ['labels', 'app.name', 'x']);
  assert.deepEqual(splitKey('a.b'), ['a', 'b']);
  assert.deepEqual(pathOf([{ key: 'x.y', path: ['x.y'] }])('x.y'), ['x.y']);
});
