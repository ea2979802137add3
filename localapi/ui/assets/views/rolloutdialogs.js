// What a person decides on a rollout: promote, pause, abort. Each says what comes of it, and asks why.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { at } from '../lib/api.js';
import { count } from '../lib/format.js';
import { Dialog } from '../components/basic.js';
import { Choice, Refused, useName, usePage, useWork } from '../components/kit.js';

const verbs = {
  promote: (r) => ({ title: `Promote v${r.candidate} now`, button: `Promote v${r.candidate}`, icon: 'check', back: 'Keep the steps', said: `v${r.candidate} is stable`,
    text: `${r.instances.length > 0 ? `All ${count(r.instances.length, 'instance')}` : 'All instances'} get v${r.candidate} now, without the rest of the bake. What refuses it then is no longer taken back by itself.` }),
  pause: (r) => ({ title: 'Pause the rollout', button: 'Pause', icon: 'pause', back: 'Keep it running', said: 'Paused',
    text: `Who has v${r.candidate} keeps it, nobody else gets it. An instance that refuses still goes back by itself.` }),
  abort: (r) => ({ title: 'Abort the rollout', button: `Abort, v${r.revert} for all`, icon: 'undo', back: 'Keep it running', said: `Aborted: v${r.revert} for all`, danger: true,
    text: `All instances get v${r.revert}, which has the values of v${r.stable}. v${r.candidate} stays in the history as rolled back.` }),
};

export function Decide({ r, verb, close }) {
  const { api } = usePage(), work = useWork(), id = useName();
  const [reason, setReason] = useState('');
  const v = verbs[verb](r);
  const go = () => work.run(async () => {
    await api.post(at`rollouts/${r.id}/${verb}`, { reason });
    await close(v.said);
  });
  return html`<${Dialog} slim title=${v.title} onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} back=${v.back} kind=${v.danger ? 'danger' : 'primary'} icon=${v.icon} off=${work.busy ? 'Under way' : ''}>${v.button}<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>${v.text}</p><label class="label-top" for=${id}>Why?</label><input id=${id} data-first maxlength="1024" value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} /></div><//>`;
}
