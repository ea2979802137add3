// Parts that the views of settings, profiles, secrets and schemas have in common.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Failure, Ghost, Icon, Note } from './basic.js';
import { mayWrite, useApp, useShared } from './context.js';

/** usePage is useApp with who is signed in, and `change`: why nothing may be changed, or an empty text. */
export function usePage() {
  const app = useApp(), shared = useShared();
  return { ...app, shared, me: shared.me, change: mayWrite(shared) };
}

/** useFresh reads again what a view shows when the shell has heard how the cluster is, and when an outage ends. */
export function useFresh(reload) {
  const { cluster, outage } = useShared(), first = useRef(true);
  useEffect(() => {
    if (!first.current) reload();
    first.current = false;
  }, [cluster, outage]);
}

let ids = 0;

/** useName gives a control an id that no other has. Those of useId begin again when the page is drawn again from its root. */
export function useName() {
  const id = useRef('');
  if (id.current === '') id.current = `k${++ids}`;
  return id.current;
}

/** Refused is what the API said to an action: with its way out, and each detail. */
export function Refused({ error }) {
  if (!error) return null;
  return html`<${Note} tone="bad" role="alert"><p><b>${error.message}</b></p>${error.code === 'rollout_active' ? html`<p>Wait for the end of the rollout, or abort it: <a href="#/rollouts">Rollouts</a>.</p>` : error.hint && html`<p>${error.hint}</p>`}
    ${error.details?.length > 0 && html`<ul>${error.details.map((d) => html`<li><code>${d.key}</code> ${d.message}</li>`)}</ul>`}<//>`;
}

/** Loading stands for what is not there yet: a ghost after a moment, or why it could not be read. */
export function Loading({ read }) {
  if (read.error) return html`<${Failure} error=${read.error} retry=${read.reload} />`;
  return html`<div aria-busy="true">${read.late && html`<${Ghost} />`}</div>`;
}

/** Panel is a box with a title. */
export function Panel({ title, side, footer, children, label }) {
  return html`<section class="panel" aria-label=${label}>${title && html`<header><h2>${title}</h2>${side}</header>`}${children}${footer && html`<footer>${footer}</footer>`}</section>`;
}

/** Menu is a list of actions on a row: {label, off, danger, onClick}. */
export function Menu({ label, items }) {
  const { say } = useApp();
  const press = (event, item) => {
    if (item.off) return say(item.off);
    event.currentTarget.closest('details').open = false;
    return item.onClick();
  };
  return html`<details class="drop"><summary class="btn quiet tiny only"><${Icon} name="dots" /><span class="sr">${label}</span></summary><div class="list">
    ${items.map((item) => html`<button type="button" key=${item.label} class=${item.danger ? 'bad tone' : ''} aria-disabled=${item.off ? 'true' : undefined} title=${item.off || undefined} onClick=${(e) => press(e, item)}>${item.label}</button>`)}</div></details>`;
}

/** Choice is the footer of a dialog: the way back and the action. */
export function Choice({ onClose, back = 'Cancel', kind = 'primary', icon, off, children, left }) {
  return html`${left}<span class="push row"><${Button} kind="quiet" onClick=${onClose}>${back}<//><${Button} kind=${kind} type="submit" data-review="" icon=${icon} off=${off}>${children}<//></span>`;
}

/** useWork runs one action at a time and keeps its error: {busy, error, run}. */
export function useWork() {
  const [state, set] = useState({ busy: false, error: null });
  const run = async (work) => {
    if (state.busy) return undefined;
    set({ busy: true, error: null });
    try {
      const out = await work();
      set({ busy: false, error: null });
      return out;
    } catch (error) {
      set({ busy: false, error });
      return undefined;
    }
  };
  return { ...state, run };
}
