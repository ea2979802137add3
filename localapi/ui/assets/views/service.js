// One service: read first, edited in place. The address says which: "?edit" or "?edit=KEY".
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { href } from '../lib/router.js';
import { readService } from '../lib/service.js';
import { Failure, Ghost } from '../components/basic.js';
import { mayWrite, useApp, useData, useLive, useTitle } from '../components/context.js';
import { Gone } from '../components/gone.js';
import { ServiceTabs } from '../components/service-head.js';
import { ServiceEdit } from './service-edit.js';
import { ServiceRead } from './service-read.js';

export function Service({ name, route, shared }) {
  const { api, go, refresh } = useApp();
  const { data: model, error, late, reload } = useData(() => readService(api, name), [name]);
  const [saved, setSaved] = useState(null); // {version, at} of what was saved here
  const [news, setNews] = useState(null); // the version before somebody else's
  const version = useRef(0);
  const own = useRef(new Set());
  useTitle(name);
  const editing = route.query.has('edit');
  const again = (event) => {
    if (event && event.service !== undefined && event.service !== name) return;
    if (event?.version !== undefined && event.version === version.current) return;
    reload();
  };
  useLive('service', again, [name]);
  useLive('schema', again, [name]);
  useLive('again', () => reload(), [name]);
  useEffect(() => {
    if (shared.outage === null && (model || error)) reload(); // what was read in an outage may be old
  }, [shared.outage]);
  useEffect(() => {
    if (!model) return;
    if (version.current !== 0 && version.current !== model.version && !own.current.has(model.version)) {
      setNews((old) => old ?? version.current);
      setSaved(null);
    }
    version.current = model.version;
  }, [model]);
  // Without a stream the list of services, which the shell reads now and then, tells as well.
  const listed = shared.services?.find((s) => s.service === name)?.version;
  useEffect(() => {
    if (listed !== undefined && version.current !== 0 && listed > version.current) reload();
  }, [listed]);
  const close = (answer) => {
    if (answer?.rollout) {
      refresh();
      go(href(['rollouts', answer.rollout.id]));
      return;
    }
    if (answer) {
      own.current.add(answer.version);
      setSaved({ ...answer, at: Date.now(), before: model.version });
      setNews(null);
      reload();
    }
    go(href(['services', name]));
  };
  const onOwn = (made) => {
    own.current.add(made);
    reload();
  };
  if (!model) {
    return html`<main class="page" id="main" tabindex="-1"><div class="head"><div><h1>${name}</h1></div></div><${ServiceTabs} name=${name} at="values" />
      ${error?.status === 404 ? html`<${Gone} name=${name} error=${error} off=${mayWrite(shared)} retry=${reload} />` : error && html`<${Failure} error=${error} retry=${reload} />`}${late && html`<${Ghost} rows=${8} />`}</main>`;
  }
  if (editing) return html`<${ServiceEdit} model=${model} shared=${shared} focus=${route.query.get('edit')} onClose=${close} onOwn=${onOwn} reload=${reload} />`;
  return html`<${ServiceRead} model=${model} shared=${shared} found=${route.query.get('key') || ''} saved=${saved} news=${news} onDismiss=${() => { setSaved(null); setNews(null); }} onOwn=${close} error=${error} />`;
}
