// The frame of every view: sidebar, top, banner, live region, signing in again.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href, match } from '../lib/router.js';
import { views } from '../views/index.js';
import { NotFound } from '../views/notfound.js';
import { Button, Drop, Icon } from './basic.js';
import { useApp, useShared } from './context.js';
import { handleKeys, KeysDialog } from './keys.js';
import { Later } from './later.js';
import { OutageBanner } from './banner.js';
import { SignInAgain } from './session.js';
import { exact } from '../lib/format.js';
import { activeOf, running, stateOf } from '../lib/rollouts.js';
import { drafts } from '../lib/draft.js';
import { toggleTheme } from '../lib/theme.js';

const listed = 40;

function SideServices({ services, rollouts, current }) {
  const kept = new Set(drafts());
  const [recent, setRecent] = useState([]);
  useEffect(() => {
    if (current) setRecent((old) => [current, ...old.filter((name) => name !== current)].slice(0, 8));
  }, [current]);
  const many = services.length > listed;
  const names = many ? recent.filter((name) => services.some((s) => s.service === name)) : services.map((s) => s.service);
  if (services.length === 0) return null;
  const ends = (name) => {
    const r = activeOf(rollouts, name);
    return kept.has(name) ? html`<span class="end tone info">draft</span>` : r && html`<span class=${`end tone ${stateOf(r).tone}`}>${r.state === 'paused' ? 'paused' : `step ${r.step}`}</span>`;
  };
  return html`${names.length > 0 && html`<span class="label">${many ? 'Recent' : 'Services'}</span>`}
    ${names.map((name) => html`<a key=${name} href=${href(['services', name])} aria-current=${name === current ? 'page' : undefined}><span class="clip">${name}</span>${ends(name)}</a>`)}
    ${many && html`<a href="#/services">All ${services.length.toLocaleString('en')}</a>`}`;
}

function Agent({ health, cluster, outage, asked }) {
  const voters = (cluster?.nodes || []).filter((n) => ['leader', 'voter'].includes(n.state) || (n.role === 'server' && n.state === 'unreachable'));
  const answer = voters.filter((n) => n.reachable).length;
  const name = asked || cluster?.leader || 'this agent';
  const leads = cluster?.leader && cluster.leader === asked;
  const text = outage ? (outage.kind === 'no-leader' ? 'read-only, no leader known' : 'read-only') : `${leads ? 'leads' : cluster?.leader ? 'follows' : 'answers'}${voters.length > 0 ? `, ${answer} of ${voters.length} ${voters.length === 1 ? 'voter' : 'voters'} ${answer === 1 ? 'answers' : 'answer'}` : ''}`;
  return html`<div class=${`agent ${outage ? 'warn' : health && !health.ok ? 'warn' : 'ok'}`}><span class="dot"></span><div><b>${name}</b>${text}</div></div>`;
}

// Several rollouts may run; what is paused waits for a person.
function RolloutsEnd({ list }) {
  const on = (list ?? []).filter(running), paused = on.filter((r) => r.state === 'paused').length;
  if (on.length === 0) return null;
  return html`<span class=${`end tone ${paused > 0 ? 'warn' : 'theirs'}`}>${paused > 0 ? `${paused} paused` : `${on.length} running`}</span>`;
}

function Side({ shared, route }) {
  const at = route.path[0] || 'services';
  const here = (name) => (at === name && (name !== 'services' || route.path.length < 2) ? 'page' : undefined);
  return html`<nav class="side" id="side" aria-label="Main">
    <a class="brand" href="#/services"><${Icon} name="mark" />Holdfast</a>
    <a href="#/services" aria-current=${here('services')}><${Icon} name="list" />Services<span class="end">${shared.services ? shared.services.length.toLocaleString('en') : ''}</span></a>
    <a href="#/profiles" aria-current=${here('profiles')}><${Icon} name="layers" />Profiles</a>
    ${shared.rollouts && html`<a href="#/rollouts" aria-current=${here('rollouts')}><${Icon} name="steps" />Rollouts<${RolloutsEnd} list=${shared.rollouts} /></a>`}
    <${SideServices} services=${shared.services || []} rollouts=${shared.rollouts} current=${at === 'services' ? route.path[1] : undefined} />
    <div class="foot"><a href="#/cog/cluster" aria-current=${here('cog')}><${Icon} name="cog" />Cluster and settings</a>
      <${Agent} ...${shared} /></div>
  </nav>`;
}

function Top({ shared, route, menu, onMenu, onKeys, onSignOut }) {
  const { go } = useApp();
  const [q, setQ] = useState('');
  useEffect(() => {
    setQ(route.path[0] === 'search' ? route.query.get('q') || '' : '');
  }, [route.path[0], route.query.get('q')]);
  const search = (event) => {
    event.preventDefault();
    event.target.querySelector('input').blur(); // j and k then move in the results
    go(href(['search'], { q }));
  };
  const crumbs = route.view?.crumbs?.(route) || [];
  const { me } = shared;
  return html`<header class="top">
    <button type="button" class="btn quiet only menu" aria-controls="side" aria-expanded=${String(menu)} onClick=${onMenu}><${Icon} name="menu" /><span class="sr">Menu</span></button>
    <nav class="crumbs" aria-label="Where you are">${crumbs.map((c, i) => html`${i > 0 && html`<${Icon} name="right" />`}${c.href ? html`<a href=${c.href}>${c.label}</a>` : html`<span aria-current="page">${c.label}</span>`}`)}</nav>
    <form class="find" role="search" onSubmit=${search}><label class="sr" for="q">Search all services</label><${Icon} name="search" />
      <input id="q" name="q" placeholder="Search all services" autocomplete="off" value=${q} onInput=${(e) => setQ(e.target.value)} /><kbd aria-hidden="true">/</kbd></form>
    <${Button} kind="quiet only" class="opt" icon="moon" label="Dark or light" onClick=${toggleTheme} />
    <${Button} kind="quiet only" class="opt" icon="keyboard" label="Keyboard" onClick=${onKeys} />
    ${me && html`<${Drop} summary=${html`${me.name}<span class="muted opt">${me.role}</span>`}>
      <p>${me.name}, ${me.role}</p>${me.session_ends && html`<p>Session until ${exact(me.session_ends)}</p>`}<hr />
      <a href="#/cog/tokens">Tokens</a><a href="#/cog/about">About and appearance</a><hr />
      <button type="button" onClick=${onSignOut}>Sign out</button></${Drop}>`}
  </header>`;
}

/** Shell draws the view of the address inside the frame. */
export function Shell({ hash, onSignOut }) {
  const { go } = useApp();
  const shared = useShared();
  const [keys, setKeys] = useState(false);
  const [menu, setMenu] = useState(false);
  const moved = useRef(false);
  const route = match(views, hash);
  useEffect(() => handleKeys({ go, openKeys: () => setKeys(true), closeMenu: () => setMenu(false) }), [go]);
  useEffect(() => {
    document.body.classList.toggle('nav-open', menu);
  }, [menu]);
  useLayoutEffect(() => { // with the drawing: a key that comes next may move the focus itself
    setMenu(false);
    window.scrollTo(0, 0);
    if (moved.current) document.getElementById('main')?.focus({ preventScroll: true });
    moved.current = true;
  }, [route.path.join('/')]);
  const View = !route.view ? NotFound : route.view.view || Later;
  return html`<a class="btn skip" href=${hash} onClick=${(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>To the content</a>
    <div class="app"><${Side} shared=${shared} route=${route} /><div>
      <${Top} shared=${shared} route=${route} menu=${menu} onMenu=${() => setMenu(!menu)} onKeys=${() => setKeys(true)} onSignOut=${onSignOut} />
      ${shared.outage && html`<${OutageBanner} outage=${shared.outage} />`}
      <${View} load=${route.view?.load} key=${route.view ? route.view.path + JSON.stringify(route.params) : 'none'} route=${route} shared=${shared} ...${route.params} />
    </div></div>
    ${keys && html`<${KeysDialog} onClose=${() => setKeys(false)} />`}
    ${shared.ended && html`<${SignInAgain} ended=${shared.ended} />`}`;
}
