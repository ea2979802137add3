// The head and the tabs that all views of a service share.
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { quoted } from '../lib/format.js';
import { Button, Chip, Tabs, Time, Ver } from './basic.js';
import { mayWrite } from './context.js';

/** ServiceHead: name, version, who changed it and why; actions stand right. */
export function ServiceHead({ model, children, editing, line }) {
  const by = html`Changed <${Time} at=${model.changedAt} /> by ${model.changedBy}${model.reasons.get(model.version) && html`: <bdi>${quoted(model.reasons.get(model.version))}</bdi>`}`;
  return html`<div class="head"><div><h1>${model.name} <${Ver} n=${model.version} />${editing && html` <${Chip} tone="info" icon="pen">your draft</${Chip}>`}</h1>
    <p>${line || html`${model.description && html`<bdi>${model.description}</bdi> `}${by}`}</p></div>${children && html`<div class="row">${children}</div>`}</div>`;
}

/** EditButton leads to the form. In an outage, too: what is typed there is kept. */
export function EditButton({ name, shared, primary, ...rest }) {
  const off = shared.outage ? '' : mayWrite(shared);
  return html`<${Button} kind=${primary && !off ? 'primary' : ''} icon="pen" off=${off} data-edit="" href=${`${href(['services', name])}?edit`} kbd="e" ...${rest}>Edit</${Button}>`;
}

/** ServiceTabs: `at` is "values", "history", "instances", "secrets" or "schema". */
export function ServiceTabs({ name, at, model }) {
  const item = (id, label, count) => ({ label, count, href: href(id === 'values' ? ['services', name] : ['services', name, id]), current: at === id });
  const items = [item('values', 'Values', model?.rows.length || undefined), item('history', 'History', model?.version), item('instances', 'Instances'), item('secrets', 'Secrets', model ? model.secrets.length : undefined), item('schema', 'Schema')];
  return html`<${Tabs} label="Views of the service" items=${items} />`;
}
