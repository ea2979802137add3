// What the agent tells the page by itself: one stream of server-sent events a tab, closed while the
// tab is hidden. Events carry names and versions; who hears one reads again.

const kinds = ['service', 'schema', 'health', 'cluster', 'instances', 'rollout'];

/**
 * createLive gives {start, stop, on}. `open(url)` makes an EventSource, `page` is the document and
 * `later(fn, ms)` a timer. After a gap (hidden tab, lost stream) followers of "again" hear that
 * anything may have changed.
 */
export function createLive({ open, page, later = (fn, ms) => setTimeout(fn, ms), url = '/api/events' }) {
  const followers = new Map();
  let source = null;
  let started = false;
  let pause = 1000;
  let gap = false;
  let waiting = false;

  function tell(kind, data) {
    for (const follower of [...(followers.get(kind) || [])]) follower(data);
  }

  function connect() {
    if (!started || source || waiting || page.hidden) return;
    const mine = open(url);
    source = mine;
    mine.onopen = () => {
      pause = 1000;
      tell('state', true);
      if (gap) tell('again');
      gap = false;
    };
    mine.onerror = () => {
      if (source !== mine) return;
      // The browser's own retry gives up at 401, 429 and 503; ours does not, and waits longer each time.
      close();
      tell('state', false);
      waiting = true;
      later(() => {
        waiting = false;
        connect();
      }, pause);
      pause = Math.min(pause * 2, 30000);
    };
    for (const kind of kinds) {
      mine.addEventListener(kind, (event) => {
        try {
          tell(kind, JSON.parse(event.data));
        } catch {
          tell('again');
        }
      });
    }
  }

  function close() {
    if (!source) return;
    source.close();
    source = null;
    gap = true;
  }

  page.addEventListener('visibilitychange', () => (page.hidden ? close() : connect()));
  return {
    start() {
      started = true;
      connect();
    },
    stop() {
      started = false;
      close();
    },
    on(kind, follower) {
      if (!followers.has(kind)) followers.set(kind, new Set());
      followers.get(kind).add(follower);
      return () => followers.get(kind).delete(follower);
    },
  };
}
