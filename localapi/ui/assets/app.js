// The page: finds out who is signed in, keeps what every view needs, and draws the shell.
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { html } from './lib/html.js';
import { createApi, outages } from './lib/api.js';
import { createLive } from './lib/live.js';
import { createStore } from './lib/store.js';
import { outageOf } from './lib/outage.js';
import { linkOf } from './lib/router.js';
import { theme } from './lib/theme.js';
import { AppProvider } from './components/context.js';
import { fetchAhead } from './components/later.js';
import { Shell } from './components/shell.js';
import { SignIn, Waiting } from './components/session.js';
import { views } from './views/index.js';

theme();
const store = createStore({ me: undefined, health: null, cluster: null, services: null, rollouts: null, source: null, age: null, silent: false, outage: null, ended: null, asked: '', agent: null, why: '', told: null });
const live = createLive({ open: (url) => new EventSource(url), page: document });
let renewal = null;

/** renew waits until the person has signed in again; all requests that met the end share it. */
function renew() {
  const { me } = store.get();
  if (!me) return Promise.reject(Object.assign(new Error('not signed in'), { status: 401, code: 'unauthenticated', hint: '' }));
  renewal ??= new Promise((resume) => {
    store.set({ ended: { name: me.name, resume: () => { store.set({ ended: null }); renewal = null; resume(); } } });
  });
  return renewal;
}

function seen(answer) {
  if (answer instanceof Error) {
    if (answer.code === 'unreachable') settle({ silent: true });
    else if (outages.has(answer.code)) soon();
    return;
  }
  const change = { silent: false };
  if (answer.source) Object.assign(change, { source: answer.source, age: answer.age });
  settle(change);
}

function settle(change) {
  const next = { ...store.get(), ...change };
  const outage = outageOf(next);
  const same = JSON.stringify(outage) === JSON.stringify(store.get().outage);
  store.set({ ...change, outage: same ? store.get().outage : outage });
}

const api = createApi({ fetch: (...args) => fetch(...args), renew, seen });

let asking = null;
/** refresh asks how the agent and its cluster are, and which services there are. */
function refresh() {
  asking ??= (async () => {
    const read = async (path, then) => {
      try {
        then(await api.get(path));
      } catch {
        // seen() has told; a 404 or 403 leaves what was known
      }
    };
    await read('/api/config/health', (health) => settle({ health }));
    if (store.get().me && !store.get().ended) {
      await Promise.all([
        read('/api/session', ({ node_id: id }) => store.set({ asked: id || '' })), // another one after a failover; none before its first start is over
        read('/api/config/cluster', (cluster) => settle({ cluster })),
        read('/api/config/services', ({ services }) => store.set({ services })),
        read('/api/config/rollouts?limit=50', ({ results }) => store.set({ rollouts: results })),
      ]);
    }
    asking = null;
  })();
  return asking;
}

let timer = 0;
function soon(ms = 1000) {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!document.hidden) await refresh();
    soon(store.get().outage ? 4000 : 20000);
  }, ms);
}

async function signIn(body) {
  const me = await api.post('/api/session', body, { signIn: true });
  store.set({ me, why: '' });
  live.stop();
  live.start();
  refresh();
  return me;
}

async function leave() {
  live.stop();
  try {
    await api.call('DELETE', '/api/session', undefined, { signIn: true });
  } catch {
    // it had ended already
  }
  renewal = null;
  store.set({ me: null, ended: null, services: null, rollouts: null, cluster: null, asked: '' });
}

function say(text) {
  const region = document.getElementById('status');
  if (region) region.textContent = text;
}

const app = { api, live, store, say, refresh, signIn, leave, go: (hash) => { location.hash = hash; } };

async function begin() {
  const link = linkOf(location.hash);
  if (link) {
    history.replaceState(null, '', '#/services'); // good once, and out of the address before anything else
    try {
      await signIn({ link });
      return;
    } catch (refused) {
      store.set({ why: outages.has(refused.code) ? 'The agent could not take the link now.' : 'This link was used already or has expired. Sign in with a token.' });
    }
  }
  let me = null;
  try {
    me = await api.get('/api/session', { signIn: true });
    store.set({ agent: { insecure: me.insecure } });
    if (!me.signed_in) me = null;
  } catch (refused) {
    if (outages.has(refused.code)) { // nobody can sign in: an agent that cannot start has its health only
      await refresh();
      return setTimeout(begin, 3000);
    }
  }
  store.set({ me });
  if (me) live.start();
  await refresh();
}

/** ahead fetches the views that the first load left out, so that they are there in an outage, too. */
function ahead() {
  const idle = globalThis.requestIdleCallback ?? ((then) => setTimeout(then, 500));
  idle(() => fetchAhead(views.map((view) => view.load).filter(Boolean)));
}

function App() {
  const [state, set] = useState(store.get());
  const [hash, setHash] = useState(linkOf(location.hash) ? '#/services' : location.hash || '#/services');
  useEffect(() => {
    set(store.get()); // an effect comes after the first frame: who is signed in may be known by then
    return store.follow(set);
  }, []);
  useEffect(() => {
    const follow = () => {
      if (linkOf(location.hash)) begin(); // pasted into an open page; it takes the link out of the address at once
      setHash(location.hash || '#/services');
    };
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  let body = null;
  if (state.me) body = html`<${Shell} hash=${hash} onSignOut=${leave} />`;
  else if (state.me === undefined && state.outage) body = html`<${Waiting} outage=${state.outage} />`;
  else if (state.me === null) body = html`<${SignIn} why=${state.why} agent=${state.agent} health=${state.health} />`;
  return html`<${AppProvider} value=${app}>${body}<div class="sr" role="status" aria-live="polite" id="status"></div></${AppProvider}>`;
}

for (const kind of ['service', 'schema', 'cluster', 'health', 'rollout', 'again']) live.on(kind, () => soon(200));
render(html`<${App} />`, document.getElementById('app') ?? document.body);
begin().finally(ahead);
soon(20000);
