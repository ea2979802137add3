// A long list of rows of one height: only those in sight are drawn.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';

const all = 80; // this many are simply drawn
const spare = 8;

/** useWindow gives {from, to, before, after, ref}: ref is for the tbody, before and after are heights. */
export function useWindow(count) {
  const ref = useRef(null);
  const [state, set] = useState({ from: 0, to: Math.min(count, all), height: 54 });
  useEffect(() => {
    if (count <= all) return undefined;
    let frame = 0;
    const look = () => {
      frame = 0;
      const body = ref.current;
      if (!body) return;
      const row = body.querySelector('tr:not([aria-hidden])');
      const height = row?.offsetHeight || 54;
      const top = -body.getBoundingClientRect().top;
      const from = Math.max(0, Math.min(count - 1, Math.floor(top / height) - spare));
      const to = Math.min(count, Math.ceil((top + window.innerHeight) / height) + spare);
      set((old) => (old.from === from && old.to === to && old.height === height ? old : { from, to: Math.max(to, from + 1), height }));
    };
    const soon = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    addEventListener('scroll', soon, { passive: true });
    addEventListener('resize', soon);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener('scroll', soon);
      removeEventListener('resize', soon);
    };
  }, [count]);
  if (count <= all) return { from: 0, to: count, before: 0, after: 0, ref };
  const from = Math.min(state.from, Math.max(0, count - 1));
  const to = Math.min(count, state.to);
  return { from, to, before: from * state.height, after: (count - to) * state.height, ref };
}

/** Gap keeps the place of the rows that are not drawn. */
export function Gap({ height, columns }) {
  if (height <= 0) return null;
  return html`<tr aria-hidden="true"><td colspan=${columns} height=${height}></td></tr>`;
}
