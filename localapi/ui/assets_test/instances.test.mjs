import assert from 'node:assert/strict';
import test from 'node:test';
import { healthOf, hostOf, labelsOf, lastOf, refuses, savedText, statusOf, toneOf, usesOf } from '../assets/lib/instances.js';

const saved = '2026-11-24T14:38:21Z';
const one = (more) => ({ instance: 'stt-1', node: 'node-1', kind: 'member', version: 8, status: 'applied', since: '2026-11-24T14:38:21.300Z', age: 2, ...more });
const data = (...instances) => ({ version: 8, instances });

test('an instance that said no refuses, whatever it runs by now', () => {
  assert.equal(refuses(one({ status: 'rejected' })), 8);
  assert.equal(refuses(one({ version: 9, refused: 8 })), 8);
  assert.equal(refuses(one()), 0);
});

test('the mark of an instance says what it makes of the version', () => {
  for (const [more, tone] of [[{}, 'ok'], [{ status: 'rejected' }, 'bad'], [{ status: 'lost' }, 'warn'], [{ health: 'unhealthy' }, 'warn'], [{ version: 9, candidate: true }, 'theirs'], [{ version: 7 }, ''], [{ status: 'applying' }, '']]) {
    assert.equal(toneOf(one(more), data()), tone, JSON.stringify(more));
  }
});

test('the status says when, why, or what is missing', () => {
  const of = (more) => { const s = statusOf(one(more), data(), saved); return `${s.word}: ${s.sub}`; };
  assert.equal(of({}), 'applied: 0.3 s after it was saved');
  assert.equal(of({ status: 'rejected', reason: 'port in use' }), 'refused v8: “port in use”');
  assert.equal(of({ version: 9, refused: 8, held_back: true }), 'refused v8: without a reason');
  assert.equal(of({ version: 7, held_back: true }), 'held back: on v7 until the next version');
  assert.equal(of({ version: 7 }), 'behind: v8 is newer');
  assert.equal(of({ status: 'lost', age: 240, refused: 7 }), 'lost: silent for 4 min; ran v8 then');
  assert.equal(of({ status: 'received' }), 'received: its agent has it, nobody has read it yet');
  assert.equal(of({ version: 9, candidate: true }), 'applied: ');
  assert.equal(of({ status: 'of another build' }), 'of another build: 0.3 s after it was saved');
});

test('health before a change does not count against it', () => {
  assert.equal(healthOf(one()).word, 'not asked');
  assert.equal(healthOf(one({ health: 'unhealthy', health_since: '2026-11-24T14:12:00Z' }), saved).sub, 'since before the change: not counted');
  assert.equal(healthOf(one({ health: 'unhealthy', health_since: '2026-11-24T14:39:00Z' }), saved).sub, '');
  assert.equal(healthOf(one({ health: 'healthy' }), saved).tone, 'ok');
});

test('labels and hosts', () => {
  assert.equal(labelsOf(one({ labels: { zone: 'a', tier: 'canary' } })), 'tier=canary, zone=a');
  assert.equal(labelsOf(one()), '');
  assert.equal(hostOf(one({ addr: '10.0.4.21' })), 'node-1, 10.0.4.21');
  assert.equal(hostOf(one({ instance: 'node-1', kind: 'mqtt' })), 'heard over MQTT, never an approval');
});

test('what became of a save', () => {
  assert.equal(savedText(null, 8, saved), null);
  assert.equal(savedText(data(), 8, saved), null);
  assert.equal(savedText({ ...data(one()), version: 7 }, 8, saved), null);
  assert.equal(savedText(data(one(), one({ since: '2026-11-24T14:38:21.900Z' })), 8, saved).text, '2 of 2 instances have it, the last one 0.9 s after you saved.');
  const no = savedText(data(one(), one({ instance: 'stt-2', status: 'rejected', reason: 'port in use' })), 8, saved);
  assert.deepEqual([no.tone, no.title, no.text, no.who], ['bad', '1 of 2 instances have it.', 'stt-2 refused it: “port in use”.', 'stt-2']);
  assert.equal(lastOf(data(one({ since: '2026-11-24T14:00:00Z' })), saved), ''); // it had these values before
});

test('keys that nobody reads come first', () => {
  const uses = usesOf({ instances: [one(), one()], keys: [{ key: 'b', readers: 2 }, { key: 'c', readers: 0 }, { key: 'a', readers: 2 }] });
  assert.deepEqual(uses.map((u) => `${u.key} ${u.text}`), ['c nobody', 'a 2 of 2', 'b 2 of 2']);
});
