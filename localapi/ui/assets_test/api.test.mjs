import assert from 'node:assert/strict';
import test from 'node:test';
import { ApiError, at, createApi, withQuery } from '../assets/lib/api.js';

const answer = (status, body, headers = {}) => ({ ok: status < 400, status, headers: new Headers(headers), text: async () => (typeof body === 'string' ? body : JSON.stringify(body)) });

test('a request that met the end of the session is sent again after signing in', async () => {
  const sent = [];
  let signedIn = false;
  const api = createApi({
    fetch: async (path, init) => {
      sent.push([init.method, path, init.body]);
      return signedIn ? answer(200, { done: true }) : answer(401, { code: 'unauthenticated', error: 'no token' });
    },
    renew: async () => { signedIn = true; },
  });
  assert.deepEqual(await api.put('/x', { a: 1 }), { done: true });
  assert.deepEqual(sent, [['PUT', '/x', '{"a":1}'], ['PUT', '/x', '{"a":1}']]);
});

test('a wrong token at signing in does not ask to sign in again', async () => {
  const api = createApi({ fetch: async () => answer(401, { code: 'unauthenticated', error: 'wrong' }), renew: () => assert.fail('asked') });
  await assert.rejects(api.post('/api/session', { token: 'x' }, { signIn: true }), { code: 'unauthenticated' });
});

test('an error has what the agent says of it', async () => {
  const api = createApi({ fetch: async () => answer(409, { error: 'another write was first', code: 'version_conflict', hint: 'read it again', current_version: 8 }) });
  await assert.rejects(api.put('/x', {}), (e) => e instanceof ApiError && e.status === 409 && e.code === 'version_conflict' && e.hint === 'read it again' && e.currentVersion === 8);
});

test('an agent that does not answer, or not with JSON, is told from a refusal', async () => {
  const heard = [];
  const dead = createApi({ fetch: async () => { throw new TypeError('failed'); }, seen: (x) => heard.push(x.code) });
  await assert.rejects(dead.get('/x'), { code: 'unreachable', status: 0 });
  const html = createApi({ fetch: async () => answer(502, '<html>') });
  await assert.rejects(html.get('/x'), { code: 'internal', status: 502 });
  const read = createApi({ fetch: async () => answer(503, { code: 'no_quorum', error: 'no leader' }), seen: (x) => heard.push(x.code) });
  await assert.rejects(read.get('/x'), { code: 'no_quorum' });
  assert.deepEqual(heard, ['unreachable', 'no_quorum']);
});

test('every answer tells where it is from', async () => {
  const heard = [];
  const api = createApi({ fetch: async () => answer(200, {}, { 'X-Config-Source': 'lkg', 'X-Config-Age': '90' }), seen: (x) => heard.push(x) });
  await api.get('/x');
  assert.deepEqual(heard, [{ source: 'lkg', age: '90' }]);
});

test('names in paths are encoded', () => {
  assert.equal(at`services/${'a/b?c'}/versions`, '/api/config/services/a%2Fb%3Fc/versions');
  assert.equal(withQuery('/x', { a: '', b: 'c d', e: 0, f: null }), '/x?b=c+d&e=0');
});
