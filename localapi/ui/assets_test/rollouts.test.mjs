import assert from 'node:assert/strict';
import test from 'node:test';
import { actionsOf, activeOf, bakeText, list, minutes, planText, seconds, share, standing, steps, titleOf, verdictOf, waysOf, whom } from '../assets/lib/rollouts.js';

const canary = [{ count: 1, bake: '2m', targets: 1, begun: true }, { percent: 25, bake: '2m', targets: 2, begun: true }, { percent: 100, bake: '2m', targets: 0, begun: false }];
const instances = [{ instance: 'tts-3', version: 6, target: true, verdict: 'approved' }, { instance: 'tts-7', version: 6, target: true, verdict: 'waiting' },
  ...[1, 2, 4, 5, 6, 8].map((n) => ({ instance: `tts-${n}`, version: 5, status: n === 8 ? 'lost' : 'applied', target: false }))];
const rollout = (more) => ({ id: 'tts-6-abc123', service: 'tts', state: 'running', phase: 'baking', step: 2, steps: canary, stable: 5, candidate: 6, revert: 7, plan: { steps: canary, max_rejected: 0 }, instances, ...more });

test('durations are those of Go', () => {
  for (const [text, s] of [['2m0s', 120], ['1h2m3.5s', 3723.5], ['500ms', 0.5], ['', 0], [undefined, 0]]) assert.equal(seconds(text), s, text);
  assert.equal(bakeText('2m'), '2 min');
  assert.equal(bakeText('0s'), '');
  assert.deepEqual([48, 0, -3, 60.2, 3725].map(minutes), ['0:48', '0:00', '0:00', '1:01', '1:02:05']);
});

test('an id names the service and the version', () => {
  assert.deepEqual([titleOf('tts-worker-6-0a1b2c'), titleOf('x'), titleOf('a-1-2-abcdef')], ['tts-worker v6', 'x', 'a-1 v2']);
});

test('a step says whom it has', () => {
  assert.deepEqual([{ count: 1 }, { percent: 25 }, { percent: 100 }, { labels: { zone: 'a', tier: 'x' } }, { instances: ['a', 'b'] }, { instances: ['a', 'b', 'c', 'd', 'e'] }].map(whom), ['1 instance', '25 %', 'all', 'tier=x, zone=a', 'a, b', 'a, b, c and 2 more']);
  assert.equal(planText({ steps: canary }), '1 instance, 25 %, all');
  assert.equal(planText({ steps: [10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map((percent) => ({ percent })) }), '10 %, 20 %, …, all');
  assert.deepEqual([[], ['a'], ['a', 'b'], ['a', 'b', 'c', 'd', 'e']].map(list), ['', 'a', 'a and b', 'a, b, c and 2 more']);
});

test('where a rollout is', () => {
  assert.equal(standing(rollout()), 'step 2 of 3, baking');
  assert.equal(standing(rollout({ state: 'paused' })), 'paused in step 2 of 3');
  assert.equal(standing(rollout({ state: 'rolled_back' })), 'rolled back');
  assert.deepEqual(steps(rollout()).map((s) => [s.mark, s.title, s.text]), [
    ['ok', '1 instance', 'took it, and ran it for 2 min'],
    ['theirs', '25 %: 2 of 8', 'tts-3 runs v6. tts-7 has not said yet.'],
    ['', 'All', 'then a final bake of 2 min makes v6 stable']]);
  assert.equal(steps(rollout({ state: 'paused' }))[1].mark, 'warn');
  assert.deepEqual(steps(rollout({ state: 'rolled_back', outcome: 'tts-7 refused: no voice' })).map((s) => s.mark), ['ok', 'bad', '']);
  assert.ok(steps(rollout({ state: 'completed', step: 3 })).every((s) => s.mark === 'ok'));
  assert.deepEqual(share(rollout()), { stable: 5, candidate: 2, revert: 0, all: 8 });
});

test('an action that may not be done says why', () => {
  assert.deepEqual(actionsOf(rollout(), ''), { promote: '', abort: '', pause: '', resume: 'It is not paused' });
  assert.equal(actionsOf(rollout({ state: 'paused' }), '').pause, 'It is paused already');
  assert.equal(actionsOf(rollout({ state: 'completed' }), '').promote, 'It has ended: completed');
  assert.equal(actionsOf(rollout(), 'read only').resume, 'read only');
  assert.equal(actionsOf(rollout({ instances: [{ instance: 'a', verdict: 'rejected' }] }), '').promote, 'a refused v6: it is rolled back');
  assert.equal(verdictOf({ verdict: 'rejected' }).tone, 'bad');
  assert.equal(verdictOf({}).word, 'not in a step yet');
});

test('the ways in which a change goes out', () => {
  const plain = waysOf({}, [1, 2]);
  assert.deepEqual([plain.first, plain.own, plain.ways.map((w) => w.value)], ['all', false, ['all', 'canary', 'linear']]);
  assert.equal(plain.ways[0].text, '2 instances get it within a second.');
  assert.deepEqual([waysOf({ 'x-rollout': 'canary' }).first, waysOf({ 'x-rollout': 'canary' }).own], ['canary', true]);
  const own = waysOf({ 'x-rollout': { steps: [{ labels: { tier: 'canary' } }, { percent: 100 }] } });
  assert.deepEqual([own.first, own.ways.at(-1).text], ['schema', 'tier=canary, all. Reverts by itself if one refuses.']);
  assert.deepEqual([activeOf([rollout()], 'tts')?.id, activeOf([rollout({ state: 'completed' })], 'tts'), activeOf(null, 'tts')], ['tts-6-abc123', null, null]);
});
