// A value that others can follow. The page has one for what every view needs.

export function createStore(initial) {
  let state = initial;
  const followers = new Set();
  return {
    get: () => state,
    /** set merges a change and tells the followers, unless nothing differs. */
    set(change) {
      if (Object.keys(change).every((key) => Object.is(change[key], state[key]))) return;
      state = { ...state, ...change };
      for (const follower of [...followers]) follower(state);
    },
    follow(follower) {
      followers.add(follower);
      return () => followers.delete(follower);
    },
  };
}
