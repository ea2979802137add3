// Parts of the page that are fetched when they are opened, or before, when nothing else is to do.
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Failure, Ghost } from './basic.js';

const there = new Map(); // what each load gave

async function fetchPart(load) {
  if (!there.has(load)) there.set(load, await load());
}

/** fetchAhead fetches parts one after the other. What fails is tried again when it is opened. */
export async function fetchAhead(loads) {
  for (const load of loads) await fetchPart(load).catch(() => {});
}

// The part of another build is not there any more, and a browser says no more than that it got none.
const missing = { message: 'The agent did not send this part of the page', hint: 'If it runs another build by now, load the page again.' };

/** Later draws what `load` gives, as soon as it is there. */
export function Later({ load, ...props }) {
  const [turn, again] = useState(0), [failed, fail] = useState(false), [late, setLate] = useState(false);
  const Part = there.get(load);
  useEffect(() => {
    if (there.has(load)) return undefined;
    let here = true;
    const timer = setTimeout(setLate, 300, true);
    fetchPart(load).then(() => here && again((n) => n + 1), () => here && fail(true));
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [load, turn]);
  useLayoutEffect(() => { // the focus was where the part is now
    if (Part && turn > 0 && document.activeElement === document.body) document.getElementById('main')?.focus({ preventScroll: true });
  }, [Part]);
  if (Part) return html`<${Part} ...${props} />`;
  const retry = () => {
    fail(false);
    again((n) => n + 1);
  };
  return html`<main class="page" id="main" tabindex="-1" aria-busy=${String(!failed)}>${failed ? html`<h1>Not here yet</h1><${Failure} error=${missing} what="This view could not be loaded." retry=${retry} />` : late && html`<${Ghost} rows=${8} />`}</main>`;
}
