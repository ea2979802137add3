// The sentences of the cluster page.
import { span } from './format.js';
import { millis, until } from './when.js';

const many = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;

// RENEWAL is how long before its end a certificate is due.
const RENEWAL = 10 * 86400;

export const isServer = (n) => n.role !== 'sidecar';
const votes = (n) => n.state === 'leader' || n.state === 'voter';

// standing says whether changes can be made, and by whom.
export function standing(status) {
  // A voter that does not answer has lost its word for voting: the count has all.
  const voters = status.voters || status.nodes.filter(votes).length;
  if (voters === 0) return { tone: 'bad', text: 'No changes for now: this agent does not see the cluster.' };
  const answer = status.nodes.filter((n) => votes(n) && n.reachable).length;
  const needed = Math.floor(voters / 2) + 1;
  const facts = `${answer} of ${many(voters, 'voter')} ${answer === 1 ? 'answers' : 'answer'}, ${needed} ${needed === 1 ? 'is' : 'are'} needed.`;
  if (status.quorum) return { tone: answer < voters ? 'warn' : 'ok', text: `Changes can be made: ${facts}` };
  const why = status.leader ? '' : 'no leader is known, ';
  return { tone: 'bad', text: `No changes for now: ${why}${facts}` };
}

// behind says how far an agent is from the leader.
export function behind(node) {
  if (node.state === 'leader') return { text: 'leads', tone: '' };
  if (lost(node)) return { text: 'not known', tone: 'bad' };
  if (!node.reachable) return { text: node.updated_at ? span(node.lag_seconds) : 'not known', tone: 'bad' };
  if (node.lag_entries > 0) return { text: many(node.lag_entries, 'entry').replace('entrys', 'entries'), tone: 'warn' };
  if (node.lag_seconds > 30) return { text: `no leader heard for ${span(node.lag_seconds)}`, tone: 'warn' };
  return { text: 'up to date', tone: '' };
}

// ends says when a certificate ends.
export function ends(iso, now) {
  const t = millis(iso);
  if (Number.isNaN(t)) return { text: 'not known', tone: '' };
  const left = (t - now) / 1000;
  if (left <= 0) return { text: `ended ${span(-left)} ago`, tone: 'bad' };
  return { text: span(left), tone: left < RENEWAL ? 'warn' : '' };
}

// lost says whether an agent answers without having a replica: it serves its file, and follows nobody.
const lost = (node) => node.reachable && node.state === 'non-voter' && isServer(node) && node.mode === 'read-only-fallback';

const STATES = {
  leader: ['ok', 'check', 'leader'],
  voter: ['ok', 'check', 'voter'],
  'non-voter': ['', 'check', 'follows'],
  lost: ['warn', 'cloud-off', 'read-only'],
  unreachable: ['bad', 'cloud-off', 'unreachable'],
  rebuilding: ['warn', 'clock', 'rebuilding'],
  removed: ['', 'x', 'removed'],
};

// state is an agent's word, with its icon and its tone.
export function state(node) {
  const [tone, icon, word] = STATES[lost(node) ? 'lost' : node.reachable || node.state === 'removed' ? node.state : 'unreachable'] ?? ['', 'info', node.state];
  let sub = node.err ?? '';
  if (!sub && word === 'unreachable' && !isServer(node)) sub = 'its service keeps reading from its own file';
  if (!sub && node.mode && node.mode !== 'normal') sub = node.mode;
  return { tone, icon, word, sub };
}

// builds says whether all agents run the same.
export function builds(nodes) {
  const answer = nodes.filter((n) => n.reachable).length;
  const versions = [...new Set(nodes.map((n) => n.version).filter(Boolean))].sort();
  const same = versions.length > 1 ? `${versions.length} builds run: ${versions.join(', ')}.` : 'All run the same build.';
  return `${answer} of ${nodes.length} ${answer === 1 ? 'answers' : 'answer'}. ${same}`;
}

// uses says how often a join token was used, and may be.
export function uses(token) {
  return token.uses === 0 ? `${token.used} used, no limit` : `${token.used} of ${token.uses} used`;
}

// usable says whether a token still works.
export function usable(token, now) {
  if (token.revoked) return { tone: 'bad', icon: 'x', text: 'revoked' };
  const t = millis(token.expires_at);
  if (t <= now) return { tone: 'bad', icon: 'clock', text: 'expired' };
  if (token.uses > 0 && token.used >= token.uses) return { tone: '', icon: 'check', text: 'used up' };
  if (t - now < 3 * 86400000) return { tone: 'warn', icon: 'clock', text: `expires ${until(token.expires_at, now)}` };
  return { tone: 'ok', icon: 'check', text: 'usable' };
}

// joined says which agents there are now and were not before.
export function joined(before, nodes) {
  const known = new Set(before);
  return nodes.filter((n) => !known.has(n.node_id) && n.reachable).map((n) => n.node_id);
}

// menu lists what can be done with an agent, and why not.
export function actions(node, status) {
  const out = [];
  if (!isServer(node)) return [{ verb: 'remove', label: 'Remove from the cluster' }];
  if (node.state === 'non-voter') out.push({ verb: 'promote', label: 'Make it a voter' });
  if (node.state === 'voter') out.push({ verb: 'demote', label: 'Make it a non-voter', why: status.voters <= 1 ? 'It is the only voter' : '' });
  out.push({ verb: 'remove', label: 'Remove from the cluster', why: node.state === 'leader' ? 'It leads: transfer leadership first' : '' });
  return out;
}
