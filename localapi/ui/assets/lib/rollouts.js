// What a staged rollout is and does, in words: from the rollouts of the admin API.
import { count, span } from './format.js';
import { labelsOf } from './instances.js';

/** seconds reads a duration as Go writes it: "1h2m0.5s" is 3720.5. */
export function seconds(text) {
  const units = { h: 3600, m: 60, s: 1, ms: 0.001, us: 1e-6, µs: 1e-6, ns: 1e-9 };
  let sum = 0;
  for (const [, n, unit] of String(text ?? '').matchAll(/([\d.]+)(h|ms|us|µs|ns|m|s)/g)) sum += Number(n) * units[unit];
  return sum;
}

/** bakeText is a duration for a person: "2 min"; empty for none. */
export function bakeText(text) {
  const s = seconds(text);
  return s > 0 ? span(s) : '';
}

/** minutes is a rest of time as a clock shows it: "0:48", "1:02:05". */
export function minutes(s) {
  const t = Math.max(0, Math.ceil(s)), h = Math.floor(t / 3600), m = Math.floor((t % 3600) / 60);
  const two = (n) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(t % 60)}` : `${m}:${two(t % 60)}`;
}

/** whom says whom a step chooses: "1 instance", "25 %", "all", "tier=canary", "stt-1, stt-2". */
export function whom(step) {
  if (step.count) return count(step.count, 'instance');
  if (step.labels) return labelsOf(step);
  if (step.instances) return step.instances.length > 4 ? `${step.instances.slice(0, 3).join(', ')} and ${step.instances.length - 3} more` : step.instances.join(', ');
  return step.percent >= 100 ? 'all' : `${step.percent} %`;
}

/** planText is a plan in one line: "1 instance, 25 %, all". */
export function planText(plan) {
  const steps = plan.steps ?? [];
  const shown = steps.length > 6 ? [...steps.slice(0, 2).map(whom), '…', whom(steps.at(-1))] : steps.map(whom);
  return shown.join(', ');
}

/** titleOf is the service and the version of an id: "tts-worker v6" of tts-worker-6-0a1b2c. */
export function titleOf(id) {
  const [, service, version] = /^(.+)-(\d+)-[0-9a-f]{6}$/.exec(id) ?? [];
  return service ? `${service} v${version}` : id;
}

/** running tells whether more comes of a rollout. */
export const running = (r) => r.state === 'running' || r.state === 'paused';

const states = {
  running: ['theirs', 'steps', 'running'], paused: ['warn', 'pause', 'paused'], completed: ['ok', 'check', 'completed'], rolled_back: ['bad', 'undo', 'rolled back'], superseded: ['', 'x', 'replaced'],
};

/** stateOf is {tone, icon, word} of a rollout. */
export function stateOf(r) {
  const [tone, icon, word] = states[r.state] ?? ['', 'info', r.state];
  return { tone, icon, word };
}

const phases = { deploying: 'waits for its instances', baking: 'baking', final: 'final bake' };

/** standing is where a rollout is: "step 2 of 3, baking", "paused in step 1 of 3". */
export function standing(r) {
  const at = `step ${r.step} of ${r.steps.length}`;
  if (r.state === 'paused') return `paused in ${at}`;
  return running(r) ? `${at}, ${phases[r.phase] ?? r.phase ?? ''}`.replace(/, $/, '') : stateOf(r).word;
}

/** steps are the phases for a person: [{mark, title, text, bake}]; mark is "ok", "theirs" for now, "" for later. */
export function steps(r) {
  const all = r.instances.length;
  return r.steps.map((s, i) => {
    const n = i + 1, now = n === r.step, open = running(r), last = n === r.steps.length;
    const done = n < r.step || r.state === 'completed';
    const title = `${s.labels || s.instances ? whom(s) : capital(whom(s))}${s.begun && s.targets > 0 && all > 0 && !s.count ? `: ${s.targets} of ${all}` : ''}`;
    const bake = bakeText(s.bake);
    if (done) return { mark: 'ok', title, text: bake ? `took it, and ran it for ${bake}` : 'took it' };
    if (!now) return { mark: '', title, text: last ? `then ${bake ? `a final bake of ${bake} makes` : 'it makes'} v${r.candidate} stable` : bake ? `then a bake of ${bake}` : '' };
    if (!open) return { mark: r.state === 'rolled_back' ? 'bad' : 'warn', title, text: `it ended here: ${r.outcome || stateOf(r).word}` };
    return { mark: r.state === 'paused' ? 'warn' : 'theirs', title, text: said(r), now: true };
  });
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// said is what the targets of the step make of the candidate.
function said(r) {
  const of = r.instances.filter((i) => i.target);
  const names = (verdict) => of.filter((i) => i.verdict === verdict).map((i) => i.instance);
  const took = names('approved'), waits = names('waiting');
  const parts = [];
  if (took.length > 0) parts.push(`${list(took)} ${took.length === 1 ? 'runs' : 'run'} v${r.candidate}.`);
  if (waits.length > 0) parts.push(`${list(waits)} ${waits.length === 1 ? 'has' : 'have'} not said yet.`);
  for (const [verdict, word] of [['rejected', 'refused it'], ['unhealthy', 'turned unhealthy'], ['lost', 'is lost']]) if (names(verdict).length > 0) parts.push(`${list(names(verdict))} ${word}.`);
  if (took.length > 0 && parts.length === 1) parts.push('Nobody refused.');
  return parts.join(' ') || 'No instance has reported yet.';
}

/** list is names for a sentence: "a", "a and b", "a, b and 3 more". */
export function list(names) {
  if (names.length <= 1) return names.join('');
  if (names.length <= 4) return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`;
}

const verdicts = {
  approved: ['ok', 'check', 'approved'], waiting: ['', 'clock', 'has not said yet'], rejected: ['bad', 'x', 'refused'], unhealthy: ['bad', 'warn', 'unhealthy since'], lost: ['warn', 'warn', 'lost'],
  held_back: ['theirs', 'undo', 'held back'], joined: ['', 'info', 'joined during the step'],
};

/** verdictOf is {tone, icon, word} of an instance in a rollout. */
export function verdictOf(i) {
  const [tone, icon, word] = verdicts[i.verdict] ?? ['', '', 'not in a step yet'];
  return { tone, icon, word };
}

/** share counts who runs what: {stable, candidate, revert, all}. */
export function share(r) {
  const on = (version) => r.instances.filter((i) => i.version === version && i.status !== 'lost').length;
  return { stable: on(r.stable), candidate: on(r.candidate), revert: on(r.revert), all: r.instances.length };
}

/** actionsOf gives why an action may not be done now, an empty text where it may: {promote, pause, resume, abort}. `off` is the reason for all. */
export function actionsOf(r, off) {
  const ended = running(r) ? '' : `It has ended: ${stateOf(r).word}`;
  const refused = r.instances.filter((i) => i.verdict === 'rejected').map((i) => i.instance);
  const too = refused.length > (r.plan.max_rejected ?? 0) ? `${list(refused)} refused v${r.candidate}: it is rolled back` : '';
  return {
    promote: off || ended || too, abort: off || ended, pause: off || ended || (r.state === 'paused' ? 'It is paused already' : ''), resume: off || ended || (r.state === 'paused' ? '' : 'It is not paused'),
  };
}

/** wayOf are the ways in which a change can go out, for a service with a schema: [{value, title, text, plan}]. */
export function waysOf(schema, instances) {
  const own = schema?.['x-rollout'], n = instances?.length;
  const all = { value: 'all', title: 'To all at once', text: n > 0 ? `${count(n, 'instance')} ${n === 1 ? 'gets' : 'get'} it within a second.` : 'Every instance gets it within a second.', plan: null };
  const ways = [all, { value: 'canary', title: 'One first', text: '1 instance, 25 %, all, 2 min each. Reverts by itself if one refuses.', plan: { preset: 'canary' } },
    { value: 'linear', title: 'In tenths', text: '10 % after 10 %, 2 min each. Reverts by itself if one refuses.', plan: { preset: 'linear' } }];
  if (own === undefined) return { ways, first: 'all', own: false };
  if (typeof own === 'string') return { ways, first: own, own: true };
  return { ways: [...ways, { value: 'schema', title: 'As the schema says', text: `${own.steps ? planText(own) : own.preset ?? 'In steps'}. Reverts by itself if one refuses.`, plan: own }], first: 'schema', own: true };
}

/** activeOf is the rollout of a service that runs, of those that the page knows. */
export function activeOf(rollouts, service) {
  return (rollouts ?? []).find((r) => r.service === service && running(r)) ?? null;
}
