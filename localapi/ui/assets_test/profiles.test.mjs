import assert from 'node:assert/strict';
import test from 'node:test';
import { changes, defaultsOf, differing, equal, flatten, grid, holds, show, validName } from '../assets/lib/profiles.js';

test('flatten names nested values by dotted keys, and quotes names with dots', () => {
  const flat = flatten({ a: 1, limits: { max: 2, min: { x: null } }, 'app.name': 'b', list: [1], empty: {} });
  assert.deepEqual([...flat], [['a', 1], ['limits.max', 2], ['limits.min.x', null], ['"app.name"', 'b'], ['list', [1]], ['empty', {}]]);
});

test('equal compares JSON values, not spellings', () => {
  assert.ok(equal({ a: 1, b: [1, { c: 2 }] }, { b: [1, { c: 2 }], a: 1 }));
  for (const [a, b] of [[[1, 2], [2, 1]], [{ a: 1 }, { a: 1, b: undefined }], [null, {}], [1, '1'], [{}, []]]) assert.ok(!equal(a, b), JSON.stringify([a, b]));
});

const profiles = [
  { name: 'night', services: { tts: { volume: 20 }, gone: { x: 1 } } },
  { name: 'day', services: { tts: { volume: 100, limits: { max: 5 } } } },
];
const current = { tts: { volume: 100, voice: 'a', limits: { max: 5 } }, stt: { y: 1 } };
const defaults = { tts: new Map([['volume', 100], ['voice', 'a'], ['limits.max', 3]]) };

test('the grid has what a profile gives each key, defaults included', () => {
  const rows = grid(profiles, current, defaults);
  assert.deepEqual(rows.map((g) => [g.service, g.exists]), [['gone', false], ['tts', true]]);
  const tts = Object.fromEntries(rows[1].rows.map((r) => [r.key, r]));
  assert.deepEqual(tts.volume.cells, [{ held: true, value: 20, differs: true }, { held: true, value: 100, differs: false }]);
  // Activating night returns limits.max to its default, because activating replaces.
  assert.deepEqual(tts['limits.max'].cells[0], { held: true, byDefault: true, value: 3, differs: true });
  assert.equal(tts.voice.differs, false);
  assert.equal(tts.voice.held, false);
  assert.equal(rows[0].rows[0].cells[1].held, false);
  assert.deepEqual([differing(rows, 0), differing(rows, 1)], [3, 0]);
});

test('changes lists keys that differ, in order', () => {
  assert.deepEqual(changes({ b: 1, a: { x: 1 }, same: [1] }, { b: 2, a: {}, same: [1] }),
    [{ key: 'a', old: undefined, new: {} }, { key: 'a.x', old: 1, new: undefined }, { key: 'b', old: 1, new: 2 }]);
});

test('words', () => {
  assert.equal(holds({ services: { a: { x: 1 } } }), '1 service, 1 value');
  assert.equal(holds(profiles[0]), '2 services, 2 values');
  assert.deepEqual(['a', '', 'null', 1, null, undefined, [1]].map(show), ['a', '""', 'null', '1', 'null', 'no value', '[1]']);
  assert.ok(validName('night-2.x') && !validName('') && !validName('<b>') && !validName('-a'));
});

test('the default of an object is one for each member', () => {
  const of = defaultsOf([{ key: 'servo', default: { left: { min: 1 } } }, { key: 'none' }, { key: 'map', default: {} }, { key: 'x', default: null }]);
  assert.deepEqual([...of], [['servo.left.min', 1], ['map', {}], ['x', null]]);
  const rows = grid([{ name: 'p', services: { s: {} } }], { s: { servo: { left: { min: 1 } } } }, { s: of });
  assert.equal(differing(rows, 0), 0);
});
