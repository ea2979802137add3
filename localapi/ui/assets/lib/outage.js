// Whether changes are possible now, from what the agent says of itself and of its cluster. Nothing
// here asks anything: the shell does, and shows the answer in one banner.
import { count, span } from './format.js';

/** of gives null, or {title, text, advice, reason}: `reason` is what every disabled button says. */
export function outageOf({ health, cluster, source, age, silent }) {
  const since = ageText(age);
  if (silent) {
    return {
      kind: 'unreachable', title: 'This agent does not answer.', text: 'Showing what this page read before. Services read their agent’s own copy meanwhile.',
      advice: 'Check that the agent runs and that this machine reaches it.', reason: 'Changes are off: this agent does not answer',
    };
  }
  const mode = health?.operational_mode;
  if (health?.event === 'the agent cannot start') {
    return {
      kind: 'fallback', title: 'Read-only: this agent cannot start.', text: `Showing ${what('lkg')}${since}. Services keep reading it.`,
      advice: sentence((health.err || '').replace(/^this agent cannot start, [^:]*: /, '')), reason: 'Changes are off: this agent cannot start',
    };
  }
  if (mode === 'rebuilding') {
    return {
      kind: 'rebuilding', title: 'Read-only: this agent rebuilds its store.', text: `Showing ${what(source)}${since}. Services keep reading it.`,
      advice: health.err || 'Changes come back when it has finished.', reason: 'Changes are off: this agent rebuilds its store',
    };
  }
  // What a schema file does not accept keeps nobody from changing values: that is a way out.
  const broken = health?.database_status && !['healthy', 'schema-mismatch'].includes(health.database_status);
  if (broken || (source && source !== 'replica')) {
    const title = source === 'default' ? 'Read-only: this agent has only the defaults of its schemas.' : 'Read-only: this agent serves from its last-known-good file.';
    return {
      kind: 'fallback', title, text: `Showing ${what(source)}${since}. Services keep reading it.`, advice: wayOut(health),
      reason: source === 'default' ? 'Changes are off: this agent has only the defaults of its schemas' : 'Changes are off: this agent serves from its last-known-good file',
    };
  }
  if (cluster ? !cluster.quorum || !cluster.leader : mode === 'read-only-fallback' && health.database_status !== 'schema-mismatch') {
    const voters = (cluster?.nodes || []).filter((n) => n.role === 'server' && !['removed', 'non-voter'].includes(n.state));
    const answer = voters.filter((n) => n.reachable);
    const gone = voters.filter((n) => !n.reachable).map((n) => n.node_id);
    const all = cluster?.voters || voters.length, need = Math.floor(all / 2) + 1;
    const facts = cluster ? `${answer.length} of ${count(all, 'voter')} ${answer.length === 1 ? 'answers' : 'answer'}, ${need} ${need === 1 ? 'is' : 'are'} needed. ` : '';
    return {
      kind: 'no-leader', title: cluster?.leader ? 'Read-only: the leader has no majority.' : 'Read-only: no leader is known.',
      text: `${facts}Showing ${what(source)}${since}. Services keep reading it.`,
      advice: answer.length >= need ? 'An election is under way.' : gone.length > 0 ? `To make changes, start ${gone.join(' or ')}.` : 'See Cluster for the members.',
      reason: cluster?.leader ? 'Changes are off: the leader has no majority' : 'Changes are off: no leader is known',
    };
  }
  return null;
}

const sentence = (text) => (text === '' ? '' : `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`);

// wayOut is why a replica is not there, and what brings it back.
function wayOut(health) {
  if (!health?.err) return 'This agent is starting.';
  const why = sentence(health.err);
  return health.database_status === 'corrupted' ? `${why} To make changes, put its files back from a copy, or run: holdfast rebuild.` : `${why} See Health.`;
}

function what(source) {
  if (source === 'lkg') return 'this agent’s last-known-good file';
  if (source === 'default') return 'the defaults of the schemas';
  return 'this agent’s own copy';
}

function ageText(age) {
  if (age === null || age === undefined || age === '') return '';
  const s = Number(age);
  return Number.isFinite(s) && s >= 1 ? `, ${span(s)} old` : '';
}
