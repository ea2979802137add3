import assert from 'node:assert/strict';
import test from 'node:test';
import { changes, words, near } from '../assets/lib/diff.js';
import { drop, equal, get, keyOf, put } from '../assets/lib/values.js';

const brief = (list) => list.map((c) => [c.key, c.old, c.new]);

test('documents differ by key, nested ones by their members', () => {
  const a = { x: 1, retry: { attempts: 3, backoff: 0.5 }, gone: null, list: [1, 2] };
  const b = { x: 1, retry: { attempts: 5, backoff: 0.5 }, list: [1, 2, 3], fresh: 'y' };
  assert.deepEqual(brief(changes(a, b)), [['fresh', undefined, 'y'], ['gone', null, undefined], ['list', [1, 2], [1, 2, 3]], ['retry.attempts', 3, 5]]);
  assert.deepEqual(changes(a, structuredClone(a)), []);
});

test('an object that is one value is compared as one', () => {
  assert.deepEqual(brief(changes({ m: { a: 1 } }, { m: { a: 2 } }, new Set(['m']))), [['m', { a: 1 }, { a: 2 }]]);
  assert.deepEqual(brief(changes({ m: {} }, {})), [['m', {}, undefined]]);
  assert.deepEqual(brief(changes({ m: 1 }, { m: { a: 1 } })), [['m', 1, { a: 1 }]]);
});

test('names with dots stand in quotes', () => {
  assert.equal(keyOf(['labels', 'app.name']), 'labels."app.name"');
  assert.deepEqual(brief(changes({ l: { 'a.b': 1 } }, { l: { 'a.b': 2 } })), [['l."a.b"', 1, 2]]);
});

test('equal ignores the order of members and tells null from absent', () => {
  assert.ok(equal({ a: 1, b: [{ c: 2 }] }, { b: [{ c: 2 }], a: 1 }));
  assert.ok(equal(0, -0));
  assert.ok(!equal({ a: null }, {}));
  assert.ok(!equal([], {}));
  assert.ok(!equal('1', 1));
});

test('a value is put and dropped without touching the document', () => {
  const doc = { a: { b: 1 } };
  assert.deepEqual(put(doc, ['a', 'c'], 2), { a: { b: 1, c: 2 } });
  assert.deepEqual(drop(doc, ['a', 'b']), {}, 'the empty object goes too');
  assert.deepEqual(drop({ a: { b: 1, c: 2 } }, ['a', 'b']), { a: { c: 2 } });
  assert.deepEqual(doc, { a: { b: 1 } });
  const evil = put({}, ['__proto__', 'polluted'], true);
  assert.equal({}.polluted, undefined);
  assert.equal(get(evil, ['__proto__', 'polluted']), true);
  assert.equal(get({}, ['constructor', 'name']), undefined);
});

test('texts differ by words', () => {
  assert.deepEqual(words('one or two short sentences', 'one short sentence'), [
    { kind: 'same', text: 'one ' }, { kind: 'del', text: 'or two ' }, { kind: 'same', text: 'short ' }, { kind: 'del', text: 'sentences' },
    { kind: 'ins', text: 'sentence' }]);
  assert.deepEqual(words('', 'x'), [{ kind: 'ins', text: 'x' }]);
  assert.deepEqual(words('same', 'same'), [{ kind: 'same', text: 'same' }]);
});

test('both sides of a word diff can be read back, also of long and foreign texts', () => {
  const long = Array.from({ length: 4000 }, (_, i) => `w${i % 7}`).join(' ');
  for (const [a, b] of [['שלום עולם', 'שלום 🙂 עולם'], [long, long.replaceAll('w3', 'x')], ['<b>a</b>', '<i>a</i>'], ['a\n\nb', 'a\nb']]) {
    const parts = words(a, b);
    assert.equal(parts.filter((p) => p.kind !== 'ins').map((p) => p.text).join(''), a);
    assert.equal(parts.filter((p) => p.kind !== 'del').map((p) => p.text).join(''), b);
  }
});

test('long texts are cut to where they differ', () => {
  const same = 'x'.repeat(1000);
  assert.deepEqual(near(`${same}old${same}`, `${same}new!${same}`, 2), { from: '…xxoldxx…', to: '…xxnew!xx…', same: 1996 });
  assert.deepEqual(near('aaa', 'aaaa', 60), { from: 'aaa', to: 'aaaa', same: 0 });
  assert.deepEqual(near(same, `${same}!`, 1), { from: '…x', to: '…x!', same: 999 });
  assert.deepEqual(near('', 'a', 1), { from: '', to: 'a', same: 0 });
});
