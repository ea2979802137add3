// What every view may use: the API, the events, the shared state, the live region and navigation.
import { Component, createContext, h } from 'preact';
import { useContext, useEffect, useRef, useState, useCallback } from 'preact/hooks';

const Context = createContext(null);

export const AppProvider = Context.Provider;

/** useApp gives {api, live, store, say, go, sent}. */
export function useApp() {
  return useContext(Context);
}

/** useShared follows the shared state: {me, health, cluster, services, outage, ...}. */
export function useShared() {
  const { store } = useApp();
  const [state, set] = useState(store.get());
  useEffect(() => {
    set(store.get());
    return store.follow(set);
  }, [store]);
  return state;
}

/** useLive calls `then` for an event of the agent: "service", "schema", "health", "cluster", "again". */
export function useLive(kind, then, also = []) {
  const { live } = useApp();
  useEffect(() => live.on(kind, then), [live, kind, ...also]);
}

/**
 * useData reads what a view shows: {data, error, loading, late, reload}. It reads again when one of
 * `deps` changes; the old data stays until the new is there, unless the view became another one.
 * `late` turns true after 300 ms: only then is the ghost drawn.
 */
export function useData(read, deps) {
  const [state, set] = useState({ data: null, error: null, loading: true, late: false });
  const turn = useRef(0);
  const latest = useRef(read);
  latest.current = read;
  const reload = useCallback(async () => {
    const mine = ++turn.current;
    set((old) => ({ ...old, loading: true }));
    const timer = setTimeout(() => mine === turn.current && set((old) => ({ ...old, late: true })), 300);
    try {
      const data = await latest.current();
      if (mine === turn.current) set({ data, error: null, loading: false, late: false });
      return data;
    } catch (error) {
      if (mine === turn.current) set((old) => ({ data: old.data, error, loading: false, late: false }));
      return null;
    } finally {
      clearTimeout(timer);
    }
  }, []);
  useEffect(() => {
    set({ data: null, error: null, loading: true, late: false });
    reload();
    return () => {
      turn.current++;
    };
  }, deps);
  return { ...state, reload };
}

/** useTitle names the tab. */
export function useTitle(title) {
  useEffect(() => {
    document.title = title ? `${title} · Holdfast` : 'Holdfast';
  }, [title]);
}

/** mayWrite gives the reason why this person cannot change anything now, or an empty text. */
export function mayWrite({ me, outage }) {
  if (outage) return outage.reason;
  if (me && me.role !== 'config.write') return `Your token has the role ${me.role}. Ask someone with config.write to change it.`;
  return '';
}

/** pure draws a component again only when one of its properties is another one. */
export function pure(Inner) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const now = this.props;
      return Object.keys({ ...now, ...next }).some((name) => !Object.is(now[name], next[name]));
    }

    render(props) {
      return h(Inner, props);
    }
  };
}
