import assert from 'node:assert/strict';
import test from 'node:test';
import { accessQuery, checks, copied, ending, keyRows, short, steps, verdict } from '../assets/lib/cog.js';
import { stamp, took, until } from '../assets/lib/when.js';

const now = Date.parse('2026-11-29T12:00:00Z');
const health = { ok: true, database_status: 'healthy', operational_mode: 'normal', config_epoch: 'e', schema_version: 2, lkg_cache_valid: true, litestream_status: 'disabled', last_backup: null, event: 'started', err: null };

test('health without faults, and with', () => {
  const good = checks(health, null, null, now);
  assert.equal(verdict(health, null, good), 'This agent serves and takes changes.');
  const bad = { ...health, operational_mode: 'read-only-fallback', database_status: 'corrupted', err: 'disk' };
  const cluster = { quorum: false, leader: '', term: 3, nodes: [{ node_id: 'a', reachable: true, config_epoch: 'e' }, { node_id: 'b', reachable: false }] };
  const rows = checks(bad, cluster, { status: 'error', err: 'denied' }, now);
  assert.deepEqual(rows.filter((r) => r.tone === 'bad').map((r) => r.name), ['Changes', 'Database', 'Backup', 'Fault']);
  assert.match(verdict(health, { quorum: false }, rows), /takes no changes/, 'the members are known before the mode changes');
  assert.equal(verdict(bad, { quorum: false }, rows), 'This agent serves, and takes no changes. 6 checks need attention.');
});

test('backup', () => {
  assert.equal(copied({ last_backup: null, drill: null, place: '' }, now).newest, 'none yet');
  const c = copied({ last_backup: '2026-11-29T11:59:00Z', index: 12, behind: 1, waiting_bytes: 10, place: 's3://x', drill: { at: '2026-11-28T12:00:00Z', took_seconds: 0.82, index: 9, err: null } }, now);
  assert.deepEqual(c, { newest: '11:59:00, 1 min ago', position: 'index 12, 1 entry waits, 10 B', drill: 'equal', drillTone: 'ok', drillSub: '28 Nov 12:00:00, took 0.8 s, index 9', place: 's3://x' });
});

test('keys: one row a kind, with what may not be done and why', () => {
  const rotation = { kind: 'master', key_id: 'a91d77c0-1-1', old_key_id: 'ef733be2-1-1', phase: 'renewal', done: 4, total: 6, waiting: [], until: '' };
  const status = { keys: [{ kind: 'master', key_id: 'ef733be2-1-1', state: 'old' }, { kind: 'master', key_id: 'a91d77c0-1-1', state: 'active', not_before: '2026-11-29T11:59:00Z', secrets: 1, created_by: 'ops' }], rotations: [rotation] };
  const [master, signing] = keyRows(status, now);
  assert.deepEqual([master.id, master.state, master.other, master.why.rotate, master.why.abort], ['a91d77c0', 'being renewed, 4 of 6', 'in place of ef733be2', 'A rotation of this key is under way', 'The new key is in use']);
  const [next] = keyRows({ ...status, keys: [{ kind: 'master', key_id: 'ef733be2-1-1', state: 'active' }, { kind: 'master', key_id: 'a91d77c0-1-1', state: 'announced' }], rotations: [{ ...rotation, phase: 'handover' }] }, now);
  assert.deepEqual([next.id, next.other], ['ef733be2', 'a91d77c0 comes next'], 'a key that is not in use yet replaces nothing');
  assert.deepEqual([signing.state, signing.why.rotate, signing.why.abort], ['not recorded yet', '', 'Nothing is under way']);
  assert.deepEqual(steps(rotation).map((s) => s.mark), ['ok', 'theirs', '']);
  assert.deepEqual(steps({ ...rotation, phase: 'handover', waiting: ['n: away'] })[0], { title: 'Handed out', mark: 'theirs', text: 'waits for n: away' });
  assert.equal(short('d7cc98c43d8df99de8e183'), 'd7cc98c43d8df99d');
});

test('the query of the access log', () => {
  assert.equal(accessQuery({ action: 'write', service: '', user: 'a b', hours: '24' }, now, 50, 50), 'action=write&user=a+b&since=2026-11-28T12%3A00%3A00.000Z&limit=50&offset=50');
});

test('times', () => {
  assert.deepEqual([until('', now), until('2026-11-29T13:30:00Z', now), until('2026-11-29T11:00:00Z', now), until('2036-10-26T12:00:00Z', now)], ['never', 'in 1 h', 'ended', 'in 9 years']);
  assert.deepEqual([stamp('2026-11-29T01:02:03Z', now), stamp('2025-11-29T01:02:03Z', now), stamp(null, now)], ['01:02:03', '29 Nov 2025 01:02:03', 'never']);
  assert.deepEqual([took(0.04), took(12), ending('', now), ending('2026-11-29T11:59:00Z', now)], ['40 ms', '12 s', 'never', 'ended 1 min ago']);
});
