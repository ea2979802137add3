// What the instances of a service say, in words: from GET /api/config/services/{s}/instances.
import { count, span } from './format.js';
import { millis, took } from './when.js';

/** refuses tells which version an instance said no to, 0 for none. */
export function refuses(i) {
  return i.refused || (i.status === 'rejected' ? i.version : 0);
}

/** toneOf is the tone of one mark in a strip: what an instance makes of the version that is meant for it. */
export function toneOf(i, data) {
  if (refuses(i)) return 'bad';
  if (i.status === 'lost' || i.health === 'unhealthy') return 'warn';
  if (i.candidate) return 'theirs';
  return i.version === data.version && i.status !== 'applying' ? 'ok' : '';
}

const words = {
  received: ['', 'clock', 'received', 'its agent has it, nobody has read it yet'], read: ['ok', 'check', 'read', ''],
  applying: ['', 'clock', 'applying', ''], applied: ['ok', 'check', 'applied', ''],
};

/** statusOf is {tone, icon, word, sub}. `savedAt` is when the version was saved, if that is known. */
export function statusOf(i, data, savedAt = '') {
  const no = refuses(i);
  if (i.status === 'lost') return { tone: 'warn', icon: 'warn', word: 'lost', sub: `silent for ${span(i.age)}; ran v${i.version} then` };
  if (no) return { tone: 'bad', icon: 'x', word: `refused v${no}`, sub: i.reason ? `“${i.reason}”` : 'without a reason' };
  const [tone, icon, word, sub] = words[i.status] ?? ['', 'info', i.status, ''];
  const text = i.reason ? `“${i.reason}”` : sub;
  if (i.version !== data.version && !i.candidate) return { tone: i.held_back ? 'theirs' : 'warn', icon: i.held_back ? 'undo' : 'clock', word: i.held_back ? 'held back' : 'behind', sub: i.held_back ? `on v${i.version} until the next version` : `v${data.version} is newer` };
  return { tone, icon, word, sub: text || after(i, data, savedAt) };
}

// after says how long after the save an instance took it.
function after(i, data, savedAt) {
  const s = (millis(i.since) - millis(savedAt)) / 1000;
  return i.version === data.version && s >= 0 && s < 3600 ? `${took(s)} after it was saved` : '';
}

/** healthOf is {tone, icon, word, sub} of the service beside an agent. */
export function healthOf(i, savedAt = '') {
  if (!i.health) return { tone: '', icon: '', word: 'not asked', sub: '' };
  const before = i.health === 'unhealthy' && millis(i.health_since) < millis(savedAt);
  return i.health === 'healthy' ? { tone: 'ok', icon: 'pulse', word: 'healthy', sub: '' } : { tone: 'warn', icon: 'warn', word: i.health, sub: before ? 'since before the change: not counted' : '' };
}

/** labelsOf is the labels of an instance: "tier=canary, zone=a". */
export function labelsOf(i) {
  return Object.entries(i.labels ?? {}).sort().map(([k, v]) => `${k}=${v}`).join(', ');
}

/** hostOf is where an instance is, and what kind it is when that matters. */
export function hostOf(i) {
  const kind = { observer: 'observer', mqtt: 'heard over MQTT, never an approval' }[i.kind];
  return [i.node !== i.instance && i.node, i.addr, kind].filter(Boolean).join(', ');
}

/** lastOf says when the last of those that run the version took it, as "0.9 s later"; empty if that is not known. */
export function lastOf(data, savedAt) {
  const times = data.instances.filter((i) => i.version === data.version && ['read', 'applied'].includes(i.status)).map((i) => (millis(i.since) - millis(savedAt)) / 1000);
  const last = Math.max(...times);
  return times.length > 0 && last >= 0 && last < 3600 ? took(last) : '';
}

/** usesOf are the keys with who reads them, those that nobody reads first. */
export function usesOf(data) {
  const of = data.instances.length;
  return [...(data.keys ?? [])].sort((a, b) => a.readers - b.readers || (a.key < b.key ? -1 : 1)).map((k) => ({ ...k, text: k.readers === 0 ? 'nobody' : `${k.readers} of ${of}` }));
}

/** savedText is what became of a version that was just saved: {tone, title, text, who}. Null: nothing is known. */
export function savedText(data, version, savedAt) {
  if (!data || data.version !== version || data.instances.length === 0) return null;
  const no = data.instances.filter((i) => refuses(i) === version);
  const run = data.instances.filter((i) => i.version === version && !refuses(i) && i.status !== 'lost').length;
  const of = `${run} of ${count(data.instances.length, 'instance')} ${run === 1 && data.instances.length === 1 ? 'has' : 'have'} it`;
  if (no.length > 0) return { tone: 'bad', title: `${of}.`, text: no.slice(0, 3).map((i) => `${i.instance} refused it${i.reason ? `: “${i.reason}”` : ''}.`).join(' ') + (no.length > 3 ? ` So did ${no.length - 3} more.` : ''), who: no[0].instance };
  const last = run === data.instances.length ? lastOf(data, savedAt) : '';
  return { tone: 'ok', title: '', text: `${of}${last ? `, the last one ${last} after you saved` : ''}.`, who: '' };
}
