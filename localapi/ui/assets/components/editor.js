// The draft of a service: what was typed, checked by the agent while typing, carried over to newer
// versions, and saved.
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, at, outages, withQuery } from '../lib/api.js';
import { changes as compare } from '../lib/diff.js';
import { dropDraft, readDraft, withoutSecrets, writeDraft } from '../lib/draft.js';
import { parseJSON } from '../lib/fields.js';
import { apply, merge, rebase } from '../lib/merge.js';
import { pathOf, readStored, since, wholeOf } from '../lib/service.js';
import { get, isObject } from '../lib/values.js';
import { useApp, useShared } from './context.js';

const debounce = 350;
const heavy = 50000; // characters of a draft that is kept a moment after the last key stroke, not with each

function initial(model) {
  const kept = readDraft(model.name);
  return { base: kept?.base ?? model.version, changes: kept?.changes ?? {}, json: kept?.json, reason: kept?.reason ?? '', hid: kept?.hid ?? [] };
}

/** real are the changes that count: not another spelling of the same value. */
function real(changes) {
  return Object.fromEntries(Object.entries(changes).filter(([, change]) => !change.idle));
}

/** useEditor keeps the draft of a service; `model` may be newer than what the draft was made from. */
export function useEditor(model) {
  const { api } = useApp();
  const [draft, setDraft] = useState(() => initial(model));
  const [bases, setBases] = useState({ [model.version]: model.stored });
  const [kept, setKept] = useState(true);
  const baseStored = bases[draft.base] ?? null;
  const path = useMemo(() => pathOf(model.rows), [model.rows]);
  const whole = useMemo(() => wholeOf(model.rows), [model.rows]);
  useEffect(() => setBases((old) => ({ ...old, [model.version]: model.stored })), [model.version]);
  useEffect(() => {
    if (baseStored) return;
    // A draft of an older version, found in this tab: its base is read again. One that is gone counts
    // as empty, so that every key that differs is shown.
    readStored(api, model.name, draft.base).catch(() => ({})).then((stored) => setBases((old) => ({ ...old, [draft.base]: stored })));
  }, [draft.base, baseStored]);

  const keep = useKeeping(model, setKept);
  const update = useCallback((next) => {
    setDraft((old) => {
      const draft = { ...old, ...(typeof next === 'function' ? next(old) : next) };
      keep(draft);
      return draft;
    });
  }, [model.name]);
  const change = useCallback((row, to) => update((old) => {
    const { [row.key]: _, ...rest } = old.changes;
    return { changes: to ? { ...rest, [row.key]: to } : rest };
  }), [update]);

  const json = useJSON(draft, baseStored, whole);
  const changed = json ? json.changes : real(draft.changes);
  const mistakes = json?.error ? { '': json.error } : Object.fromEntries(Object.entries(draft.changes).filter(([, c]) => c.error).map(([key, c]) => [key, c.error]));
  const valid = Object.fromEntries(Object.entries(changed).filter(([, c]) => !c.error));
  const behind = draft.base !== model.version && baseStored !== null;
  const rows = behind ? merge(baseStored, model.stored, changed, path, whole) : [];
  const onto = behind ? model.stored : baseStored ?? model.stored;
  const config = json?.value !== undefined && !behind ? json.value : apply(onto, valid, path);
  const check = useCheck(api, model, config, Object.keys(changed).length > 0 && !json?.error);
  const errors = { ...check.errors, ...mistakes };

  const carry = (decided = {}) => {
    const next = rebase(changed, rows, decided);
    if (next.open.length > 0) return false;
    const stored = apply(model.stored, next.draft, path);
    update({ base: model.version, changes: draft.json === undefined ? next.draft : {}, json: draft.json === undefined ? undefined : JSON.stringify(stored, null, 2) });
    return true;
  };
  const discard = () => {
    keep(null);
    dropDraft(model.name);
    setDraft({ base: model.version, changes: {}, json: draft.json === undefined ? undefined : JSON.stringify(model.stored, null, 2), reason: '' });
  };
  return {
    draft, baseStored, changed, count: Object.keys(changed).length, errors, check, behind, rows, conflicts: rows.filter((r) => r.kind === 'conflict'), hid: hidden(model, draft), news: behind ? since(model.history, draft.base) : [], kept,
    config, effective: check.effective, change, update, carry, discard, save: useSave(api, model, config, draft, keep), mine: (row) => get(config, row.path),
  };
}

/** useKeeping gives keep(draft), and keep(null), after which nothing is written late. What waits is written when the view or the page goes. */
function useKeeping(model, setKept) {
  const waits = useRef({ draft: null, timer: 0 });
  const flush = useCallback(() => {
    const { draft } = waits.current;
    waits.current.draft = null;
    if (draft) setKept(persist(model, draft));
  }, [model.name]);
  useEffect(() => {
    addEventListener('pagehide', flush);
    return () => {
      removeEventListener('pagehide', flush);
      flush();
    };
  }, [flush]);
  return useCallback((draft) => {
    clearTimeout(waits.current.timer);
    waits.current.draft = draft;
    if (draft === null) return;
    const size = (draft.json?.length ?? 0) + Object.values(draft.changes).reduce((n, c) => n + (c.text?.length ?? 0), 0);
    if (size > heavy) waits.current.timer = setTimeout(flush, debounce);
    else flush();
  }, [flush]);
}

/** persist keeps the draft in this tab: true, false where there is no room, or "older" where only an earlier text is kept. */
function persist(model, draft) {
  if (draft.json === undefined) return writeDraft(model.name, { ...draft, at: Date.now() }, model.secrets);
  const { text } = withoutSecrets(draft.json, model.secrets.map(pathOf(model.rows)));
  return text === null ? 'older' : writeDraft(model.name, { ...draft, json: text, hid: hidden(model, draft), at: Date.now() }, model.secrets);
}

/** hidden are the keys of secrets that were typed into the text, and that the tab does not keep. */
function hidden(model, draft) {
  if (draft.json === undefined) return [];
  return [...new Set([...withoutSecrets(draft.json, model.secrets.map(pathOf(model.rows))).hid, ...(draft.hid ?? [])])];
}

function useJSON(draft, baseStored, whole) {
  return useMemo(() => {
    if (draft.json === undefined) return null;
    const read = parseJSON(draft.json);
    if (read.error) return { error: read.error, changes: {} };
    if (!isObject(read.value)) return { error: 'must be a JSON object', changes: {} };
    const list = compare(baseStored ?? {}, read.value, whole);
    return { value: read.value, changes: Object.fromEntries(list.map((c) => [c.key, c.new === undefined ? { remove: true } : { to: c.new }])) };
  }, [draft.json, baseStored, whole]);
}

/** useCheck asks the agent whether the values are valid, a moment after the last key stroke, and again after an outage. */
function useCheck(api, model, config, wanted) {
  const [state, set] = useState({ errors: {}, effective: null, pending: false, of: '', general: null, nextVersion: null });
  const text = wanted ? JSON.stringify(config) : '';
  const asked = useRef(''), away = useShared().outage !== null;
  useEffect(() => {
    if (!wanted) {
      asked.current = '';
      set({ errors: {}, effective: null, pending: false, of: '', general: null, nextVersion: null });
      return undefined;
    }
    const stop = new AbortController();
    set((old) => ({ ...old, pending: true }));
    const timer = setTimeout(async () => {
      asked.current = text;
      const done = (more) => asked.current === text && set({ errors: {}, effective: null, general: null, nextVersion: null, ...more, pending: false, of: text });
      try {
        const answer = await api.post(at`services/${model.name}/validate`, { config, mode: 'put' }, { signal: stop.signal });
        done({ effective: answer.config, nextVersion: answer.new_version });
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error.code === 'invalid' && error.details?.length > 0) done({ errors: Object.fromEntries(error.details.map((d) => [d.key, d.message])) });
        else done({ general: error });
      }
    }, debounce);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text, model.version, away]);
  return { ...state, pending: state.pending || state.of !== text };
}

/**
 * useSave sends the values with the version that they were made from. The same values are sent under the same key.
 * `way` says how they go out: {plan} starts a rollout, {rollout} is for ?rollout= of a save for all.
 */
function useSave(api, model, config, draft, keep) {
  const key = useRef({ of: '', id: '' });
  return async (reason, way = {}) => {
    const body = way.plan ? { config, version: draft.base, reason, ...way.plan } : { service: model.name, config, version: draft.base, reason };
    const of = JSON.stringify([body, way.rollout]);
    if (key.current.of !== of) key.current = { of, id: [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('') };
    try {
      const options = { headers: { 'Idempotency-Key': key.current.id } };
      const { data, headers } = way.plan ? await api.call('POST', at`services/${model.name}/rollouts`, body, options) : await api.call('PUT', withQuery(at`services/${model.name}`, { rollout: way.rollout }), body, options);
      keep(null);
      dropDraft(model.name);
      if (way.plan) return { rollout: data };
      return { version: data.new_version, changed: headers.get('X-Config-Changed') !== 'false', applied: headers.get('X-Config-Applied') !== 'false' };
    } catch (error) {
      if (error instanceof ApiError && !outages.has(error.code) && error.code !== 'outcome_unknown') key.current = { of: '', id: '' };
      throw error;
    }
  };
}
