// The sentences of health, backup, keys and the access log.
import { ago, bytes, clock, count } from './format.js';
import { millis, stamp, took, until } from './when.js';

const check = (name, tone, icon, state, detail, sub = '') => ({ name, tone, icon, state, detail, sub });

// checks are the rows of the health page, from the three reports of an agent. cluster
// and backup may be missing: what cannot be asked is said as that.
export function checks(health, cluster, backup, now) {
  const rows = [];
  const normal = health.operational_mode === 'normal';
  rows.push(check('Reads', normal ? 'ok' : 'warn', normal ? 'check' : 'cloud-off',
    normal ? 'served from the replica in memory' : `mode ${health.operational_mode}`, health.event ? `last: ${health.event}` : ''));
  if (cluster) {
    const reach = cluster.nodes.filter((n) => n.reachable).length;
    const answer = reach === 1 ? 'answers' : 'answer';
    const away = cluster.nodes.filter((n) => !n.reachable);
    rows.push(check('Changes', cluster.quorum ? 'ok' : 'bad', cluster.quorum ? 'check' : 'x', cluster.quorum ? 'accepted' : 'not now',
      cluster.leader ? `${cluster.leader} leads, term ${cluster.term}` : 'no leader is known',
      cluster.quorum ? '' : away.length ? 'Start the servers that do not answer; reads continue.' : 'Reads continue.'));
    rows.push(check('Members', away.length ? 'warn' : 'ok', away.length ? 'warn' : 'check', `${reach} of ${cluster.nodes.length} ${answer}`,
      away.map((n) => `${n.node_id} is unreachable`).join('; '), away.length ? `Start ${away.length === 1 ? 'it, or remove it' : 'them, or remove them'} under Cluster.` : ''));
  }
  const db = health.database_status;
  rows.push(check('Database', db === 'healthy' ? 'ok' : 'bad', db === 'healthy' ? 'check' : 'bad', db, ''));
  rows.push(check('Last-known-good file', health.lkg_cache_valid ? 'ok' : 'bad', health.lkg_cache_valid ? 'check' : 'bad',
    health.lkg_cache_valid ? 'good' : 'not usable', health.lkg_cache_valid ? 'verified; reads survive a restart without the cluster' : ''));
  if (cluster) {
    const epochs = new Set(cluster.nodes.filter((n) => n.reachable && n.config_epoch).map((n) => n.config_epoch));
    rows.push(check('Epoch', epochs.size > 1 ? 'bad' : 'ok', epochs.size > 1 ? 'bad' : 'check', epochs.size > 1 ? 'agents differ' : 'the same everywhere', health.config_epoch));
  }
  rows.push(health.schema_version > 0 ? check('Schema of the database', 'ok', 'check', `version ${health.schema_version}`, '') : check('Schema of the database', '', 'info', 'not known', ''));
  rows.push(backupCheck(health, backup, now));
  if (health.err) rows.push(check('Fault', 'bad', 'bad', 'needs attention', health.err));
  return rows;
}

function backupCheck(health, backup, now) {
  const status = backup?.status ?? health.litestream_status;
  if (status === 'disabled') return check('Backup', '', 'info', 'off', 'no place is set', 'Set LITESTREAM_S3_ENDPOINT on all servers.');
  const good = status === 'healthy';
  return check('Backup', good ? 'ok' : status === 'starting' ? '' : 'bad', good ? 'check' : status === 'starting' ? 'clock' : 'bad', status,
    [health.last_backup ? `newest copy ${stamp(health.last_backup, now)}` : backup ? 'no copy yet' : 'where it stands is known to a leader only', backup?.verified ? `verified ${stamp(backup.verified.at, now)}` : ''].filter(Boolean).join(', '),
    backup?.err ?? '');
}

// verdict is health in one sentence.
export function verdict(health, cluster, rows) {
  const n = rows.filter((r) => r.tone === 'bad' || r.tone === 'warn').length;
  const serves = health.operational_mode === 'normal' && cluster?.quorum !== false ? 'This agent serves and takes changes.' : 'This agent serves, and takes no changes.';
  return n === 0 ? serves : `${serves} ${n === 1 ? '1 check needs' : `${n} checks need`} attention.`;
}

// copied says where the backup stands.
export function copied(b, now) {
  const out = { newest: 'none yet', position: '', drill: 'none yet', drillTone: '', drillSub: '', place: b.place || 'not set' };
  if (b.last_backup) {
    out.newest = `${stamp(b.last_backup, now)}, ${ago(b.last_backup, now)}`;
    out.position = `index ${b.index}, ${b.behind === 0 ? 'nothing waits' : `${b.behind} ${b.behind === 1 ? 'entry waits' : 'entries wait'}, ${bytes(b.waiting_bytes)}`}`;
  }
  if (b.drill) {
    out.drill = b.drill.err ? 'failed' : 'equal';
    out.drillTone = b.drill.err ? 'bad' : 'ok';
    out.drillSub = `${stamp(b.drill.at, now)}, took ${took(b.drill.took_seconds)}${b.drill.err ? `: ${b.drill.err}` : `, index ${b.drill.index}`}`;
  }
  return out;
}

const KINDS = [
  ['master', 'seals stored secrets'], ['signing', 'signs every version'],
  ['hmac', 'authenticates the last-known-good file'], ['ca', 'signs member certificates'],
];
const PHASES = { prepared: 'handed out, not used yet', handover: 'being handed out', renewal: 'being renewed', grace: 'old key still taken' };

// keyRows is a row for each kind of key: the one in use, and a rotation under way.
export function keyRows(status, now) {
  return KINDS.map(([kind, use]) => {
    const keys = status.keys.filter((k) => k.kind === kind);
    const active = keys.find((k) => k.state === 'active') ?? keys[0];
    const rotation = status.rotations.find((r) => r.kind === kind);
    const row = { kind, use, id: short(active?.key_id ?? ''), since: active ? ago(active.not_before || active.announced_at, now) : 'not recorded yet', by: active?.created_by ?? '', tone: 'ok', state: active ? 'active' : 'not recorded yet', rotation, sub: '' };
    if (!active) row.tone = '';
    if (kind === 'master' && active) row.sub = count(active.secrets, 'secret');
    if (kind === 'signing' && active) row.sub = count(active.signatures ?? 0, 'signature');
    if (rotation) {
      row.tone = 'theirs';
      row.state = `${PHASES[rotation.phase] ?? rotation.phase}${rotation.total > 0 ? `, ${rotation.done} of ${rotation.total}` : ''}`;
      row.other = rotation.key_id === active?.key_id ? `in place of ${short(rotation.old_key_id)}` : `${short(rotation.key_id)} comes next`;
      row.sub = rotation.until ? `old key until ${stamp(rotation.until, now)}` : '';
    }
    row.why = { rotate: rotation && rotation.phase !== 'prepared' ? 'A rotation of this key is under way' : '', prepare: rotation ? 'A rotation of this key is under way' : '',
      abort: !rotation ? 'Nothing is under way' : rotation.phase === 'grace' || rotation.phase === 'renewal' ? 'The new key is in use' : '',
      retire: rotation?.phase === 'grace' ? '' : 'There is no old key to end' };
    return row;
  });
}

export const short = (id) => (/^[0-9a-f]{8}-/.test(id) ? id.slice(0, 8) : id.slice(0, 16));

// steps are the phases of a rotation, each done, now or to come.
export function steps(r) {
  const order = ['prepared', 'handover', 'renewal', 'grace'];
  const at = order.indexOf(r.phase);
  const part = (i) => (i < at ? 'ok' : i === at ? 'theirs' : '');
  return [
    { title: 'Handed out', mark: at <= 1 ? 'theirs' : 'ok', text: at <= 1 && r.waiting.length > 0 ? `waits for ${r.waiting.join('; ')}` : at <= 1 ? 'members get the new key' : 'every member has it' },
    { title: 'Renewed', mark: part(2), text: r.total > 0 ? `${r.done} of ${r.total}` : 'what the old key sealed or signed is renewed' },
    { title: 'Old key forgotten', mark: part(3), text: r.until ? `at ${clock(r.until)}, so absent members can catch up` : 'after the time in which absent members catch up' },
  ];
}

// accessQuery is the query of the access log for a set of filters.
export function accessQuery(f, now, offset, limit) {
  const q = new URLSearchParams();
  for (const name of ['action', 'service', 'user']) if (f[name]) q.set(name, f[name]);
  if (f.hours) q.set('since', new Date(now - f.hours * 3600000).toISOString());
  q.set('limit', String(limit));
  if (offset > 0) q.set('offset', String(offset));
  return q.toString();
}

// ending says when a token ends, and whether that is soon.
export function ending(iso, now) {
  if (!iso) return 'never';
  return millis(iso) <= now ? `ended ${ago(iso, now)}` : until(iso, now);
}
