// Signing in: the first time, and again in place when the session has ended.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Cmd, Dialog, Icon } from './basic.js';
import { useApp } from './context.js';

function words(error) {
  if (error.code === 'unauthenticated') return 'The token is wrong, has expired or was revoked. Ask for a new one, or create one as below.';
  return `${error.message}${error.hint ? `. ${error.hint}` : ''}`;
}

function TokenField({ id, value, error, onInput, first }) {
  return html`<div><input hidden autocomplete="username" value="token" readonly /><label class="label-top" for=${id}>API token</label>
    <input class="mono" type="password" id=${id} data-first=${first ? '' : undefined} autocomplete="current-password" spellcheck="false" value=${value} aria-invalid=${error ? 'true' : undefined}
      aria-describedby=${error ? `${id}-e ${id}-h` : `${id}-h`} onInput=${(e) => onInput(e.target.value)} />
    ${error && html`<p class="err" id=${`${id}-e`} role="alert"><${Icon} name="bad" /><span>${error}</span></p>`}
    <div class="hint" id=${`${id}-h`}><span>Sent once. This browser then has a session.</span></div></div>`;
}

function useSignIn(done) {
  const { signIn } = useApp();
  const [token, setToken] = useState('');
  const [error, setError] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event?.preventDefault();
    if (busy) return;
    if (token.trim() === '') {
      setError('Enter a token.');
      return;
    }
    setBusy(true);
    try {
      const me = await signIn({ token: token.trim() });
      setToken('');
      done?.(me);
    } catch (refused) {
      setError(words(refused));
    } finally {
      setBusy(false);
    }
  };
  return { token, setToken, error, setError, busy, submit };
}

/** SignIn is the whole page for who is not signed in. `why` says what happened to a one-time link. */
export function SignIn({ why, agent, health }) {
  const form = useSignIn();
  const plain = agent?.insecure;
  return html`<main class="signin" id="main"><div class="brand"><${Icon} name="mark" />Holdfast</div>
    ${why && html`<div class="note warn" role="alert"><${Icon} name="warn" /><div>${why}</div></div>`}
    <form class="panel" onSubmit=${form.submit} novalidate><div class="pad form"><h1>Sign in</h1>
      <${TokenField} id="token" value=${form.token} error=${form.error} onInput=${form.setToken} />
      <button class="btn primary" type="submit" aria-disabled=${form.busy ? 'true' : undefined}>Sign in</button></div>
      <footer><p>No token? On a server:</p><${Cmd} text="holdfast token create --role config.write --name YOUR-NAME" /></footer></form>
    ${plain && html`<div class="note warn"><${Icon} name="warn" /><div>This page came over plain HTTP: the network can read your token. <b>${location.host}</b> has no certificate.</div></div>`}
    ${health && html`<p class="muted"><span class=${`dot ${health.ok ? 'ok' : 'warn'}`}></span> the agent answers</p>`}
  </main>`;
}

/** Waiting is the whole page while nobody can sign in: what the agent says of itself, until it can. */
export function Waiting({ outage }) {
  return html`<main class="signin" id="main"><div class="brand"><${Icon} name="mark" />Holdfast</div>
    <div class="note warn" role="alert"><${Icon} name="cloud-off" /><div><h1>${outage.title}</h1><p>Services keep reading its last-known-good file. Nobody can sign in meanwhile.</p><p>${outage.advice} This page asks again by itself.</p></div></div></main>`;
}

/** SignInAgain covers a page whose session has ended. What was typed stays below it. */
export function SignInAgain({ ended }) {
  const { leave } = useApp();
  const form = useSignIn(ended.resume);
  const footer = html`<span class="push row"><${Button} kind="quiet" onClick=${leave}>Leave this page</${Button}><button class="btn primary" type="submit" data-review aria-disabled=${form.busy ? 'true' : undefined}>Sign in</button></span>`;
  return html`<${Dialog} slim closable=${false} title="Your session has ended" onSubmit=${form.submit} footer=${footer}>
    <div class="pad form"><p>${ended.name ? html`You were signed in as <b>${ended.name}</b>. ` : ''}Sign in again to continue here. Nothing you typed is lost.</p>
      <${TokenField} id="again" first value=${form.token} error=${form.error} onInput=${form.setToken} /></div></${Dialog}>`;
}
