import assert from 'node:assert/strict';
import test from 'node:test';
import { actions, behind, builds, ends, joined, standing, state, usable, uses } from '../assets/lib/cluster.js';

const now = Date.parse('2026-11-29T12:00:00Z');
const node = (over) => ({ node_id: 'n', role: 'server', state: 'voter', reachable: true, lag_entries: 0, lag_seconds: 0, version: 'v1', ...over });

test('standing says how many voters answer and how many are needed', () => {
  const nodes = [node({ state: 'leader' }), node(), node({ state: 'unreachable', reachable: false })];
  assert.deepEqual(standing({ quorum: true, voters: 3, leader: 'n', nodes }), { tone: 'warn', text: 'Changes can be made: 2 of 3 voters answer, 2 are needed.' });
  assert.deepEqual(standing({ quorum: false, voters: 3, leader: '', nodes: nodes.slice(1) }), { tone: 'bad', text: 'No changes for now: no leader is known, 1 of 3 voters answers, 2 are needed.' });
  assert.equal(standing({ quorum: true, voters: 1, leader: 'n', nodes: [nodes[0]] }).text, 'Changes can be made: 1 of 1 voter answers, 1 is needed.');
});

test('behind', () => {
  assert.deepEqual([node({ state: 'leader' }), node(), node({ lag_entries: 14 }), node({ lag_entries: 1 }), node({ reachable: false, updated_at: 'x', lag_seconds: 2280 }), node({ lag_seconds: 90 })].map((n) => behind(n).text),
    ['leads', 'up to date', '14 entries', '1 entry', '38 min', 'no leader heard for 1 min']);
});

test('ends of certificates: 10 days before is a warning, afterwards a fault', () => {
  assert.deepEqual(ends('2027-02-27T12:00:00Z', now), { text: '90 days', tone: '' });
  assert.deepEqual(ends('2026-12-08T11:00:00Z', now), { text: '8 days', tone: 'warn' });
  assert.deepEqual(ends('2026-11-29T11:00:00Z', now), { text: 'ended 1 h ago', tone: 'bad' });
  assert.equal(ends('', now).text, 'not known');
});

test('state of a sidecar that does not answer says what its service does', () => {
  assert.deepEqual(state(node({ role: 'sidecar', state: 'non-voter', reachable: false })), { tone: 'bad', icon: 'cloud-off', word: 'unreachable', sub: 'its service keeps reading from its own file' });
  assert.equal(state(node({ state: 'removed', reachable: false })).word, 'removed');
  assert.equal(state(node({ mode: 'rebuilding' })).sub, 'rebuilding');
});

test('tokens', () => {
  assert.equal(uses({ uses: 0, used: 2 }), '2 used, no limit');
  assert.equal(usable({ uses: 1, used: 1, expires_at: '2026-12-29T12:00:00Z' }, now).text, 'used up');
  assert.equal(usable({ revoked: true }, now).text, 'revoked');
  assert.equal(usable({ expires_at: '2026-11-29T11:00:00Z' }, now).text, 'expired');
  assert.equal(usable({ expires_at: '2026-12-01T13:00:00Z' }, now).text, 'expires in 2 days');
  assert.equal(usable({ expires_at: '' }, now).text, 'usable');
});

test('builds, joined, actions', () => {
  assert.equal(builds([node(), node({ version: 'v2', reachable: false })]), '1 of 2 answers. 2 builds run: v1, v2.');
  assert.deepEqual(joined(['a'], [node({ node_id: 'a' }), node({ node_id: 'b' }), node({ node_id: 'c', reachable: false })]), ['b']);
  assert.deepEqual(actions(node({ state: 'leader' }), { voters: 3 }).map((a) => [a.verb, a.why]), [['remove', 'It leads: transfer leadership first']]);
  assert.deepEqual(actions(node({ role: 'sidecar', state: 'non-voter' }), { voters: 3 }).map((a) => a.verb), ['remove']);
});

test('an agent without a replica follows nobody, and sees no cluster', () => {
  const node = { node_id: 'a', role: 'server', state: 'non-voter', reachable: true, mode: 'read-only-fallback', lag_entries: 0, lag_seconds: 0, err: 'the log file is damaged' };
  assert.equal(state(node).word, 'read-only');
  assert.equal(behind(node).text, 'not known');
  assert.equal(standing({ leader: '', quorum: false, voters: 0, nodes: [node] }).text, 'No changes for now: this agent does not see the cluster.');
});
