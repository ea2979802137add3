// The time of the page, in one place: tests put their own functions here.
export const clock = {
  now: () => Date.now(),
  // after calls fn once, and returns what gives it up.
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};
