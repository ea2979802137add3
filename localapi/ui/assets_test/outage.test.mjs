import assert from 'node:assert/strict';
import test from 'node:test';
import { outageOf } from '../assets/lib/outage.js';
import { ago, bytes, clipped, exact, number, shown, span } from '../assets/lib/format.js';

const health = { ok: true, operational_mode: 'normal', event: 'started', err: null };
const node = (id, reachable, state = 'voter') => ({ node_id: id, role: 'server', state, reachable });
const cluster = (leader, quorum, ...nodes) => ({ leader, quorum, voters: nodes.length, nodes });

test('an agent that leads or follows has no outage', () => {
  assert.equal(outageOf({ health, cluster: cluster('a', true, node('a', true, 'leader'), node('b', false, 'unreachable'), node('c', true)), source: 'replica', age: '0' }), null);
  assert.equal(outageOf({ health: null, cluster: null, source: null }), null, 'what is not known yet is no outage');
});

test('without a leader the banner says how many answer and whom to start', () => {
  const out = outageOf({ health, cluster: cluster('', false, node('a', true), node('b', false, 'unreachable'), node('c', false, 'unreachable')), source: 'replica', age: '75' });
  assert.equal(out.title, 'Read-only: no leader is known.');
  assert.match(out.text, /^1 of 3 voters answers, 2 are needed\. Showing this agent’s own copy, 1 min old\./);
  assert.equal(out.advice, 'To make changes, start b or c.');
  assert.equal(out.reason, 'Changes are off: no leader is known');
  assert.equal(outageOf({ health, cluster: cluster('', true, node('a', true), node('b', true), node('c', true)), source: 'replica' }).advice, 'An election is under way.');
});

test('the last-known-good file is named with its age, its reason and a way out', () => {
  const broken = { ...health, ok: false, operational_mode: 'read-only-fallback', event: 'the replica is down', err: 'the log file is damaged', database_status: 'corrupted' };
  const out = outageOf({ health: broken, cluster: cluster('', false, node('a', true, 'non-voter')), source: 'lkg', age: '1140' });
  assert.equal(out.kind, 'fallback');
  assert.match(out.text, /this agent’s last-known-good file, 19 min old/);
  assert.equal(out.advice, 'The log file is damaged. To make changes, put its files back from a copy, or run: holdfast rebuild.');
  assert.equal(outageOf({ health: { ...health, operational_mode: 'read-only-fallback', event: 'starting' }, cluster: null, source: 'lkg' }).advice, 'This agent is starting.');
});

test('an agent that cannot start says why', () => {
  const out = outageOf({ health: { ...health, ok: false, operational_mode: 'read-only-fallback', database_status: 'healthy', event: 'the agent cannot start', err: 'this agent cannot start, and serves the last known good values from memory: node-id is damaged; put it back' }, cluster: null, source: null });
  assert.equal(out.title, 'Read-only: this agent cannot start.');
  assert.equal(out.advice, 'Node-id is damaged; put it back.');
});

test('an agent without a leader shows its own copy, whatever its mode', () => {
  const alone = { ...health, ok: false, operational_mode: 'read-only-fallback', database_status: 'healthy', err: 'no leader was heard from' };
  const out = outageOf({ health: alone, cluster: cluster('', false, node('a', true), node('b', false, 'unreachable'), node('c', false, 'unreachable')), source: 'replica', age: '75' });
  assert.equal(out.title, 'Read-only: no leader is known.');
  assert.equal(out.advice, 'To make changes, start b or c.');
  assert.equal(outageOf({ health: alone, cluster: null, source: 'replica' }).kind, 'no-leader', 'an agent that cannot tell the members');
});

test('a schema file that does not accept the values is no outage: values can be changed', () => {
  const mismatch = { ...health, ok: false, operational_mode: 'read-only-fallback', database_status: 'schema-mismatch', err: 'refused' };
  assert.equal(outageOf({ health: mismatch, cluster: cluster('a', true, node('a', true, 'leader')), source: 'replica' }), null);
});

test('an agent that does not answer comes before all else', () => {
  assert.equal(outageOf({ silent: true, health, cluster: null }).kind, 'unreachable');
});

test('times are as people say them', () => {
  const now = Date.parse('2026-11-24T14:40:00Z');
  const said = (s) => ago(new Date(now - s * 1000).toISOString(), now);
  assert.deepEqual([3, 45, 130, 5 * 3600, 30 * 3600, 3 * 86400, 41 * 86400].map(said), ['just now', '45 s ago', '2 min ago', '5 h ago', 'yesterday', '3 days ago', '41 days ago']);
  assert.equal(said(-7200), 'in 2 h', 'a clock that is ahead');
  assert.equal(exact('2026-11-24T14:38:21.7+00:00'), '2026-11-24 14:38:21 UTC');
  assert.equal(ago('rubbish', now), '');
  assert.equal(span(0.4), '0 s');
});

test('numbers and values are as people read them', () => {
  assert.deepEqual([0, 999, 1204, 32768, -1234567, 0.5, 1234.5, 1e21].map(number), ['0', '999', '1,204', '32,768', '-1,234,567', '0.5', '1,234.5', '1e+21']);
  assert.deepEqual([12, 4200, 3 * 1024 * 1024].map(bytes), ['12 B', '4.1 KB', '3.0 MB']);
  assert.deepEqual([undefined, null, 'a', '', 1.5, [1], { a: null }].map(shown), ['none', 'null', 'a', '', '1.5', '[1]', '{"a":null}']);
  assert.equal(clipped('x'.repeat(300)).length, 201);
});
