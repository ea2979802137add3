// An address that no view has.
import { html } from '../lib/html.js';
import { useTitle } from '../components/context.js';

export function NotFound() {
  useTitle('Not found');
  return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>No such page</h1><p>This address has no view. <a href="#/services">Go to the services</a>.</p></div></div></main>`;
}
