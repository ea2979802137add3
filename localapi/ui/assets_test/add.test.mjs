import assert from 'node:assert/strict';
import test from 'node:test';
import { guessed } from '../assets/lib/guess.js';
import { infer } from '../assets/lib/infer.js';
import { kept } from '../assets/lib/kept.js';
import { badName, nameOf } from '../assets/lib/names.js';

test('values become the defaults of a schema', () => {
  const { schema, config, secrets } = infer({ port: 8080, rate: 0.5, name: 'x', on: true, none: null, list: ['a', 'b'], mixed: [1, 'a'], empty: {}, nest: { inner: { n: 1 } } });
  assert.deepEqual(schema.properties.port, { type: 'integer', default: 8080 });
  assert.deepEqual(schema.properties.rate, { type: 'number', default: 0.5 });
  assert.deepEqual(schema.properties.on, { type: 'boolean', default: true });
  assert.deepEqual(schema.properties.none, { type: ['string', 'null'], default: null });
  assert.deepEqual(schema.properties.list, { type: 'array', items: { type: 'string' }, default: ['a', 'b'] });
  assert.deepEqual(schema.properties.mixed, { type: 'array', default: [1, 'a'] });
  assert.deepEqual(schema.properties.empty, { type: 'object', default: {} });
  assert.deepEqual(schema.properties.nest.properties.inner.properties.n, { type: 'integer', default: 1 });
  assert.deepEqual([schema.additionalProperties, schema['x-keys'], config, secrets], [false, undefined, {}, []]);
});

test('a credential becomes a secret, and no default', () => {
  const { schema, config, secrets } = infer({ db: { password: 'hunter2', user: 'u' }, api_key: 'k1', token: '', tokens: 5, 'log-level': 'x', secrets: { first: 'hunter3' } });
  assert.ok(!/hunter/.test(JSON.stringify(schema)) && !JSON.stringify(schema).includes('k1'));
  assert.deepEqual(schema.properties.db.properties.password, { type: 'string', 'x-secret': true });
  assert.deepEqual(config, { db: { password: 'hunter2' }, api_key: 'k1', secrets: { first: 'hunter3' } });
  assert.deepEqual(secrets, ['db.password', 'api_key', 'token', 'secrets.first']);
  assert.equal(schema.properties.tokens.default, 5, 'a number is no credential');
  assert.equal(schema['x-keys'], 'any', 'for log-level');
});

test('secrets are guessed as the command line guesses them', () => {
  const yes = { password: 'x', db_password: 'x', dbPassword: 'x', DB_PASSWD: 'x', clientSecret: 'x', api_key: 'x', apiKey: 'x', apikey: 'x', API_KEY2: 'x',
    'aws.secretAccessKey': 'x', token: 'x', SENTRY_DSN: 'x', credentials: 'x', private_key: 'x', passphrase: 'x', password1: 4711,
    url: 'postgres://u:p@h/db', broker: 'mqtts://u:p@h:8883', hosts: ['http://a', 'http://u:p@h'], odd: 'amqp://u:p%zz@h',
    dsn_text: 'host=h user=u password=p', tls: '-----BEGIN RSA PRIVATE KEY-----', header: 'Bearer abcdefghijk', gh: 'ghp_abcdefghijklmnop',
    users: [{ name: 'u', password: 'p' }], access_token: 1234567890 };
  for (const [name, value] of Object.entries(yes)) assert.equal(guessed(name, value), true, name);
  const no = { port: 1, use_token: true, max_tokens: 512, maxTokens: '512000', primary_key: 'id', public_key: 'x', keyboard: 'x',
    monkey: 'x', token_file: '/run/t', DB_PASSWORD_FILE: '/run/p', url: 'https://h/p?q=a@b', mail: 'a@b.c', broker: 'mqtt://u@h:1883',
    author: 'x', passenger: 'x', token_url: 'https://h/token', empty: null, hosts: ['http://a'], compass: 'north' };
  for (const [name, value] of Object.entries(no)) assert.equal(guessed(name, value), false, name);
});

test('names of services', () => {
  for (const name of ['stt-worker', 'a', 'a1']) assert.equal(badName(name), '');
  for (const name of ['', 'A', '1a', 'a b', 'a_b', '-a', 'a'.repeat(129)]) assert.notEqual(badName(name), '', name);
  assert.deepEqual(['stt-worker.json', 'STT_Worker.schema.json', '9lives.json', '...json'].map(nameOf), ['stt-worker', 'stt-worker', 'lives', '']);
});

test('a typed text is kept until it is used', () => {
  const store = { getItem: (k) => store[k] ?? null, setItem: (k, v) => { store[k] = v; }, removeItem: (k) => { delete store[k]; } };
  assert.equal(kept('add', 'x', store), 'x');
  assert.equal(kept('add', undefined, store), 'x');
  kept('add', '', store);
  assert.equal(kept('add', undefined, store), '');
  const full = { getItem() { throw new Error('forbidden'); }, setItem() { throw new Error('QuotaExceededError'); } };
  assert.equal(kept('add', 'x', full), 'x');
  assert.equal(kept('add', undefined, full), '');
});
