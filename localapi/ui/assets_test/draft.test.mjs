import assert from 'node:assert/strict';
import test from 'node:test';
import { drafts, dropDraft, readDraft, withoutSecrets, writeDraft } from '../assets/lib/draft.js';

function storage(limit = Infinity) {
  const store = Object.create({
    getItem(key) { return Object.hasOwn(this, key) ? this[key] : null; },
    setItem(key, value) {
      if (value.length > limit) throw new Error('QuotaExceededError');
      this[key] = value;
    },
    removeItem(key) { delete this[key]; },
  });
  return store;
}

test('a draft is read back', () => {
  const store = storage();
  const draft = { base: 7, changes: { 'retry.attempts': { to: 5 }, ws_url: { to: null }, x: { remove: true } }, reason: 'why', at: 1 };
  assert.equal(writeDraft('stt-worker', draft, [], store), true);
  assert.deepEqual(readDraft('stt-worker', store), draft);
  assert.deepEqual(drafts(store), ['stt-worker']);
  dropDraft('stt-worker', store);
  assert.equal(readDraft('stt-worker', store), null);
});

test('a secret is never kept', () => {
  const store = storage();
  writeDraft('llm', { base: 1, changes: { proxy_password: { to: 'hunter2' }, temperature: { to: 1 } } }, ['proxy_password'], store);
  assert.ok(!JSON.stringify(store).includes('hunter2'));
  assert.deepEqual(Object.keys(readDraft('llm', store).changes), ['temperature']);
  writeDraft('llm', { base: 1, changes: { proxy_password: { to: 'hunter2' } } }, ['proxy_password'], store);
  assert.equal(readDraft('llm', store), null, 'nothing is left of it');
});

test('a storage that is full, damaged or forbidden is no failure', () => {
  assert.equal(writeDraft('a', { base: 1, changes: { k: { to: 'x'.repeat(100) } } }, [], storage(50)), false);
  const store = storage();
  for (const text of ['{', '3', 'null', '{"base":"x","changes":{}}', '{"base":1,"changes":null}']) {
    store['holdfast.draft.a'] = text;
    assert.equal(readDraft('a', store), null);
  }
  assert.equal(writeDraft('a', { base: 1, changes: { k: { to: 1 } } }, [], null), false);
  assert.equal(readDraft('a', null), null);
  assert.deepEqual(drafts(null), []);
});

test('a document keeps all but its secrets', () => {
  const secrets = [['pw'], ['db', 'password']];
  const text = '{ "a": 1 }';
  assert.deepEqual(withoutSecrets(text, secrets), { text, hid: [] }, 'the spelling stays');
  const out = withoutSecrets('{"a": 1, "pw": "hunter2", "db": {"password": "hunter3", "user": "u"}}', secrets);
  assert.deepEqual(JSON.parse(out.text), { a: 1, db: { user: 'u' } });
  assert.deepEqual(out.hid, ['pw', 'db.password']);
  assert.equal(withoutSecrets('{"a": 1, "pw": "hunt', secrets).text, null, 'no JSON yet, and it names a secret');
  assert.equal(withoutSecrets('{"p\\u0077": "hunt', secrets).text, null);
  assert.equal(withoutSecrets('{"a": 1, "b', secrets).text, '{"a": 1, "b');
  assert.equal(withoutSecrets('{"pw": ', []).text, '{"pw": ', 'nothing is secret');
});
