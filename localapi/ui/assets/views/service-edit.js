// Editing in place: the draft is checked by the agent while typing, reviewed, and saved with the
// version that it was made from.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { count, quoted, shown } from '../lib/format.js';
import { effectiveOf } from '../lib/service.js';
import { equal, get } from '../lib/values.js';
import { Button, Failure, Note, State, Time } from '../components/basic.js';
import { ChangesAside } from '../components/changes-aside.js';
import { mayWrite, useApp } from '../components/context.js';
import { DepthTools, useDepth, visible } from '../components/depth.js';
import { useEditor } from '../components/editor.js';
import { FieldEdit } from '../components/field-edit.js';
import { JSONEditor } from '../components/json-editor.js';
import { MergePanel } from '../components/merge-panel.js';
import { Review } from '../components/review.js';
import { EditRows } from '../components/rows.js';
import { SecretDialog } from '../components/secret-dialog.js';
import { ServiceHead, ServiceTabs } from '../components/service-head.js';

function Summary({ errors, goTo }) {
  const keys = Object.keys(errors);
  return html`<${Note} tone="bad" role="alert" tabindex="-1" id="summary"><b>${keys.length === 1 ? '1 field is invalid.' : `${keys.length} fields are invalid.`}</b> Nothing was saved.
    <ul>${keys.map((key) => html`<li key=${key}><a href="#" onClick=${(e) => { e.preventDefault(); goTo(key); }}><code>${key || 'JSON'}</code></a> ${errors[key]}</li>`)}</ul></${Note}>`;
}

function Behind({ model, editor, onUpdate, onDecide }) {
  const [newest] = editor.news;
  const keys = editor.rows.filter((r) => r.kind !== 'mine').map((r) => r.key);
  const acts = html`<${Button} kind="tiny" href=${href(['services', model.name, 'history'], { from: editor.draft.base, to: model.version })}>Show v${model.version}</${Button}>
    ${editor.conflicts.length === 0 ? html`<${Button} kind="tiny" icon="merge" onClick=${onUpdate}>Update to v${model.version}</${Button}>` : html`<${Button} kind="tiny" icon="merge" onClick=${onDecide}>Decide</${Button}>`}`;
  const both = editor.conflicts.map((r) => r.key).join(', ');
  return html`<${Note} tone="theirs" role="status" acts=${acts}><b>v${model.version} by ${newest?.by ?? model.changedBy}: ${keys.slice(0, 6).join(', ')}${keys.length > 6 ? ` and ${keys.length - 6} more` : ''}.</b> <bdi>${quoted(newest?.reason)}</bdi>
    ${editor.conflicts.length === 0 ? ' You changed other keys, so there is no conflict. Your draft is untouched.' : ` Both of you changed ${both}. Your draft is untouched.`}</${Note}>`;
}

/** focusField moves to the control of a key, whatever it is made of. */
function focusField(key) {
  const id = key === '' ? 'i-json' : `i-${key}`;
  const at = document.getElementById(id) || document.querySelector(`#${CSS.escape(`f-${key}`)} :is(input, select, textarea, button)`) || document.getElementById('i-json');
  (at?.matches('fieldset') ? at.querySelector('input:checked') || at.querySelector('input') || at : at)?.focus();
  at?.scrollIntoView({ block: 'center' });
}

export function ServiceEdit({ model, shared, focus, onClose, onOwn, reload }) {
  const { say } = useApp();
  const editor = useEditor(model);
  const [depth, setDepth] = useDepth();
  const [filter, setFilter] = useState('');
  const [view, setView] = useState('form'); // or "review", "merge"
  const [merged, setMerged] = useState(false);
  const [secret, setSecret] = useState(null);
  const [raised, setRaised] = useState(false); // Review was asked for while fields are invalid
  const wanted = useRef(null);
  const off = mayWrite(shared);
  const { errors, draft } = editor;
  const bad = Object.keys(errors).length;
  const base = editor.baseStored ?? model.stored;
  const asJSON = draft.json !== undefined || !model.drawable;
  useEffect(() => {
    if (asJSON && draft.json === undefined) editor.update({ json: JSON.stringify(base, null, 2) });
  }, [asJSON]);
  useLayoutEffect(() => { // with the first drawing: nothing that is focused later loses it
    if (focus) focusField(focus);
    else document.querySelector('.fields :is(input, select, textarea)')?.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    if (bad === 0) setRaised(false);
  }, [bad]);
  useEffect(() => {
    // Review was asked for: it waits for the agent's check and for their version.
    if (wanted.current === null || editor.check.pending || (wanted.current === 'rebase' && editor.behind)) return;
    const asked = wanted.current;
    wanted.current = null;
    open(asked === 'rebase');
  });

  function open(afterMerge) {
    if (editor.behind) return setView(editor.conflicts.length > 0 ? 'merge' : (editor.carry(), (wanted.current = 'rebase'), 'form'));
    if (bad > 0) {
      setRaised(true);
      say(`${count(bad, 'field')} ${bad === 1 ? 'is' : 'are'} invalid`);
      requestAnimationFrame(() => document.getElementById('summary')?.focus());
      return;
    }
    if (editor.check.general) {
      say(editor.check.general.message);
      return;
    }
    setMerged(afterMerge);
    setView('review');
  }
  const review = () => {
    if (editor.check.pending) wanted.current = 'review';
    else open(false);
  };
  const change = useCallback((row, to) => {
    editor.change(row, to);
  }, [editor.change]);
  const setOf = useCallback((row) => setSecret(row), []);
  const changed = (row) => editor.changed[row.key] !== undefined || draft.changes[row.key] !== undefined;
  const goTo = (key) => {
    if (filter !== '') setFilter('');
    const row = model.rows.find((r) => r.key === key);
    if (row?.advanced && depth === 'Simple' && !changed(row) && !errors[key]) setDepth('All');
    requestAnimationFrame(() => focusField(key));
  };
  const onConflict = async () => {
    await reload();
    setView('form');
    wanted.current = 'review';
  };
  const rows = visible(model.rows, { depth, filter, textOf: (row) => (row.secret ? '' : shown(editor.mine(row) ?? row.default)), changed, invalid: (row) => errors[row.key] !== undefined, found: focus || '' });
  const stopReview = off || (editor.count === 0 ? 'Nothing is changed yet' : '');
  const leave = html`<${Button} kind="quiet" data-leave="" kbd="Esc" onClick=${() => onClose(null)}>Leave editing</${Button}>`;
  const line = html`Based on v${draft.base}${draft.base === model.version ? html`, saved <${Time} at=${model.changedAt} /> by ${model.changedBy === shared.me?.name ? 'you' : model.changedBy}` : ''}. ${editor.kept === 'older' ? 'This tab keeps the last text that was JSON, because a secret is in this one.' : editor.kept ? 'The draft is kept in this tab, without secrets.' : 'This browser has no room for the draft: it lasts as long as this page.'}`;
  if (view === 'merge' && editor.behind) {
    const done = (decided) => {
      if (!editor.carry(decided)) return;
      setView('form');
      wanted.current = 'rebase';
    };
    const head = html`<${ServiceHead} model=${model} editing line=${`Not saved yet: v${model.version} came while you were editing v${draft.base}. Nothing you typed is lost.`}><${Button} kind="quiet" data-leave="" onClick=${() => setView('form')}>Back to the form</${Button}></${ServiceHead}>`;
    return html`<${MergePanel} head=${head} model=${model} editor=${editor} off=${off} onDone=${done} onDiscard=${() => { editor.discard(); onClose(null); }} />`;
  }
  const draw = (row, inside) => {
    const stored = get(base, row.path);
    const theirs = editor.behind && editor.rows.find((r) => r.key === row.key && r.kind !== 'mine');
    const newer = theirs && !equal(theirs.theirs, theirs.base) ? { version: model.version, by: editor.news[0]?.by ?? model.changedBy, value: theirs.theirs ?? row.default } : undefined;
    return html`<${FieldEdit} key=${row.key} row=${row} inside=${inside} service=${model.name} explain=${model.origins.get(row.key)} value=${effectiveOf(row, base)} was=${stored !== undefined} change=${draft.changes[row.key]}
      error=${errors[row.key]} theirs=${newer} onChange=${change} onSecret=${setOf} off=${off} />`;
  };
  return html`<main class="page" id="main" tabindex="-1"><${ServiceHead} model=${{ ...model, version: draft.base }} editing line=${line}>${leave}</${ServiceHead}>
    <${ServiceTabs} name=${model.name} at="values" model=${model} />
    ${raised && bad > 0 ? html`<${Summary} errors=${errors} goTo=${goTo} />` : editor.behind ? html`<${Behind} model=${model} editor=${editor} onUpdate=${() => { editor.carry(); say(`Updated to v${model.version}`); }} onDecide=${() => setView('merge')} />`
      : editor.check.general && !shared.outage && html`<${Failure} error=${editor.check.general} what="The agent could not check this." />`}
    ${off && html`<${Note} tone="info" icon="lock"><b>You can type, not save.</b> ${off}</${Note}>`}
    <form class="split" id="form" novalidate onSubmit=${(e) => { e.preventDefault(); review(); }}><div>
      ${asJSON ? html`<${JSONEditor} text=${draft.json ?? JSON.stringify(base, null, 2)} errors=${errors} hid=${editor.hid} onInput=${(json) => editor.update({ json })} />`
        : html`<${DepthTools} rows=${model.rows} depth=${depth} setDepth=${setDepth} filter=${filter} setFilter=${setFilter} changed=${changed} />
      <section class="panel" aria-label="Values"><${EditRows} rows=${rows} draw=${draw} /></section>`}
    </div><${ChangesAside} model=${model} editor=${editor} base=${base} onUndo=${(row) => change(row, null)} goTo=${goTo} /></form></main>
    <div class="savebar" role="region" aria-label="Save">
      ${bad > 0 ? html`<${State} tone="bad" icon="bad">${bad === 1 ? '1 field is invalid' : `${bad} fields are invalid`}</${State}>` : html`<span class="strong">${count(editor.count, 'change')}</span>`}
      <span class="muted opt">${bad > 0 ? `${count(editor.count, 'change')} ` : ''}from v${draft.base}</span>${editor.behind && html`<${State} tone="theirs" icon="merge">v${model.version} by ${editor.news[0]?.by ?? model.changedBy}</${State}>`}${editor.count > 0 && bad === 0 && !editor.check.pending && editor.check.effective && html`<${State} tone="ok" icon="check">checked</${State}>`}
      <span class="push row"><${Button} kind="quiet danger" off=${editor.count === 0 && asJSON === false ? 'Nothing is changed yet' : ''} onClick=${() => { editor.discard(); onClose(null); }}>Discard</${Button}>
        <${Button} kind="primary" icon="arrow" off=${stopReview} data-review="" kbd="Ctrl ↵" onClick=${review}>Review changes</${Button}></span></div>
    ${view === 'review' && html`<${Review} model=${model} editor=${editor} off=${off} rollouts=${shared.rollouts} merged=${merged} onClose=${() => setView('form')} onSaved=${onClose} onConflict=${onConflict} />`}
    ${secret && html`<${SecretDialog} service=${model.name} name=${secret.key} types=${secret.types} off=${off} onClose=${() => setSecret(null)} onDone=${(made) => { setSecret(null); onOwn(made); }} />`}`;
}
