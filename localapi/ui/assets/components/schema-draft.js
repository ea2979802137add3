// A new schema before it is stored: what it changes, which stored values it refuses, and the values
// that are stored together with it. The API judges.
import { useEffect, useRef, useState } from 'preact/hooks';
import { at } from '../lib/api.js';
import { count } from '../lib/format.js';
import { kept } from '../lib/kept.js';
import { broken, compare, read, withValue } from '../lib/schemadiff.js';
import { usePage, useWork } from './kit.js';

const pause = 400; // after the last key stroke

// check asks the API what it says to a schema with the stored values and some fixes.
async function check(api, service, schema, fixes) {
  let version = 0, config = {};
  try {
    const now = await api.get(`${at`services/${service}`}?values=stored`);
    version = now.metadata.version;
    config = now.config;
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  const stored = config;
  for (const [key, fix] of Object.entries(fixes)) config = withValue(config, key, fix.gone ? undefined : fix.value);
  try {
    const ok = await api.post(at`services/${service}/validate`, { schema, config, mode: 'put' });
    return { version: version || ok.new_version - 1, stored, config, next: ok.new_version, stale: ok.stale_profiles ?? [], details: [] };
  } catch (error) {
    if (error.status !== 422 || !error.details?.length) throw error;
    // The schema itself is wrong, or it refuses values: both have details.
    if (/^schema of \S+ is rejected/.test(error.message)) return { version, stored, config, stale: [], details: [], rejected: error.details };
    return { version, stored, config, stale: [], details: error.details };
  }
}

/**
 * useSchemaDraft gives {typed, type, discard, file, draft, fixes, fix, again, reason, setReason, store, error}. `typed` is the
 * text of the editor, null where none is open; it is kept in this tab. `done` gets what was stored.
 */
export function useSchemaDraft(service, before, done) {
  const { api, say } = usePage(), work = useWork();
  const place = `schema.${service}`;
  const [draft, setDraft] = useState(null), [fixes, setFixes] = useState({}), [reason, setReason] = useState('');
  const [typed, setTyped] = useState(() => kept(place) || null), [failed, setFailed] = useState(null);
  const turn = useRef(0); // of what was taken last: an older answer does not count
  const judge = async (next, given) => {
    const mine = ++turn.current;
    setFailed(null);
    let result;
    try {
      result = await check(api, service, next.schema, given);
    } catch (error) {
      if (mine === turn.current) setFailed(error);
      return;
    }
    if (mine !== turn.current) return;
    const items = broken(result.details, result.stored, next.schema);
    const known = next.items ?? []; // a control does not go while somebody types in it
    setDraft({ ...next, result, open: new Map(items.map((i) => [i.key, i.message])), items: [...known, ...items.filter((i) => !known.some((k) => k.key === i.key))] });
    say(result.rejected ? 'The agent does not take this schema' : items.length === 0 ? 'The new schema takes every value' : `${count(items.length, 'value')} would be invalid`);
  };
  const take = (text, name) => {
    turn.current++;
    setFixes({});
    setFailed(null);
    const { schema, error } = read(text);
    if (error) return setDraft({ name, size: text.length, error });
    const next = { name, size: text.length, schema, changes: compare(before, schema) };
    setDraft(next);
    return judge(next, {});
  };
  useEffect(() => {
    if (typed === null) return undefined;
    turn.current++;
    const timer = setTimeout(() => take(typed, 'The edited schema'), pause);
    return () => clearTimeout(timer);
  }, [typed]);
  const type = (text) => {
    kept(place, text);
    setTyped(text);
  };
  const discard = () => {
    turn.current++;
    kept(place, '');
    setTyped(null);
    setDraft(null);
  };
  const fix = (key, value) => {
    const next = { ...fixes };
    if (value === null) delete next[key];
    else next[key] = value;
    setFixes(next);
  };
  const store = () => work.run(async () => {
    const { result, schema } = draft;
    const out = await api.put(at`services/${service}`, { service, version: result.version, schema, config: result.config, reason });
    discard();
    done(`Stored the schema as v${out.new_version}.`);
  });
  const file = (text, name) => (typed === null ? take(text, name) : type(text));
  return { typed, type, discard, file, draft, fixes, fix, again: () => judge(draft, fixes), reason, setReason, store, error: work.error ?? failed };
}
