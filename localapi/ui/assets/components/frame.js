// The frame of a view of one service that is not its values.
import { html } from '../lib/html.js';
import { readService } from '../lib/service.js';
import { mayWrite, useApp, useData, useLive, useShared } from './context.js';
import { EditButton, ServiceHead, ServiceTabs } from './service-head.js';
import { ServiceMenu } from './service-menu.js';

/** ServiceFrame draws what is in it below the tabs. It reads again when `fresh` changes. With `own` the view has an Edit of its own. */
export function ServiceFrame({ service, tab, fresh, own, children }) {
  const { api } = useApp(), shared = useShared();
  // A service that has a schema and no values yet has no model: its name is enough then.
  const { data: model, reload } = useData(() => readService(api, service).catch(() => null), [service, fresh]);
  useLive('service', (event) => event?.service === service && reload(), [service, reload]);
  return html`<main class="page" id="main" tabindex="-1">
    ${model ? html`<${ServiceHead} model=${model}><${ServiceMenu} model=${model} off=${mayWrite(shared)} />${!own && html`<${EditButton} name=${service} shared=${shared} />`}<//>` : html`<div class="head"><div><h1>${service}</h1></div></div>`}
    <${ServiceTabs} name=${service} at=${tab} model=${model} />
    ${children}</main>`;
}
