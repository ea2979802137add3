// Dialogs of the cluster: the command by which an agent joins, transfer, and what is done to a member.
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Button, Cmd, Dialog, State } from '../components/basic.js';
import { Choice, Refused, useName, usePage, useWork } from '../components/kit.js';
import { at } from '../lib/api.js';
import { clock } from '../lib/clock.js';
import { joined } from '../lib/cluster.js';
import { clock as timeOfDay } from '../lib/format.js';

const ROLES = [
  ['server', 'Server', 'Can vote and lead. Gets every key: use a machine you trust with all secrets.'],
  ['sidecar', 'Sidecar', 'Runs beside one service. Never votes, gets only that service’s keys.'],
];

// Waiting asks the cluster every two seconds until an agent is there that was not.
function Waiting({ before }) {
  const { api, say } = usePage();
  const [who, setWho] = useState('');
  useEffect(() => {
    let stop = () => {}, gone = false;
    const ask = async () => {
      const status = await api.get(at`cluster`).catch(() => null);
      if (gone) return;
      const [fresh] = status ? joined(before, status.nodes) : [];
      if (fresh) {
        setWho(fresh);
        say(`${fresh} has joined`);
      } else stop = clock.after(2000, ask);
    };
    ask();
    return () => {
      gone = true;
      stop();
    };
  }, []);
  return who ? html`<${State} tone="ok" icon="check">${who} has joined<//>` : html`<span class="state muted"><span class="dot"></span>Waiting for the agent to join</span>`;
}

export function Join({ status, services, close }) {
  const { api } = usePage(), id = useName(), work = useWork();
  const [role, setRole] = useState('sidecar'), [service, setService] = useState(''), [ttl, setTtl] = useState('1h'), [uses, setUses] = useState('1');
  const [made, setMade] = useState(null);
  const before = useRef(status.nodes.map((n) => n.node_id));
  const bad = /^\d{1,7}$/.test(uses) && Number(uses) <= 1000000 ? '' : 'from 0 to 1,000,000; 0 is without a limit';
  const make = () => !bad && work.run(async () => {
    const body = { role, ttl, uses: Number(uses) };
    if (role === 'sidecar' && service) body.service = service;
    setMade(await api.post(at`cluster/tokens`, body));
  });
  const revoke = () => work.run(async () => {
    await api.del(at`cluster/tokens/${made.id}`);
    close(`Revoked the token ${made.id}.`);
  });
  const footer = made ? html`<${Waiting} before=${before.current} /><span class="push row"><${Button} kind="quiet danger" onClick=${revoke}>Revoke<//><${Button} kind="primary" onClick=${() => close()}>Done<//></span>`
    : html`<${Choice} onClose=${() => close()} icon="plus" off=${bad}>Make the command<//>`;
  return html`<${Dialog} title="Add an agent" onClose=${() => close()} onSubmit=${make} footer=${footer}>
    <div class="pad form"><${Refused} error=${work.error} />
    ${made ? html`<div><h3>Run this on the new machine</h3><${Cmd} text=${made.command} word="Copy" /><div class="hint"><span>Shown once. Valid ${uses === '0' ? 'without a limit' : `for ${uses} ${uses === '1' ? 'agent' : 'agents'}`} until ${timeOfDay(made.expires_at)} UTC${ttl === '1h' ? '' : `, ${made.expires_at.slice(0, 10)}`}.</span></div></div>` : html`
    <div class="pick" role="radiogroup" aria-label="Role">${ROLES.map(([value, title, text]) => html`<label key=${value}><input type="radio" name="role" value=${value} checked=${role === value} data-first=${role === value ? '' : undefined} onChange=${() => setRole(value)} /><span class="strong">${title}</span><span class="muted">${text}</span></label>`)}</div>
    <div class="cols">${role === 'sidecar' && html`<div><label class="label-top" for=${`${id}s`}>Service</label><select id=${`${id}s`} value=${service} onChange=${(e) => setService(e.currentTarget.value)}><option value="">Any service</option>${Object.keys(services).sort().map((s) => html`<option key=${s} value=${s}>${s}</option>`)}</select></div>`}
    <div><label class="label-top" for=${`${id}t`}>Valid for</label><select id=${`${id}t`} value=${ttl} onChange=${(e) => setTtl(e.currentTarget.value)}><option value="1h">1 hour</option><option value="24h">24 hours</option><option value="720h">30 days</option></select></div>
    <div><label class="label-top" for=${`${id}u`}>Agents</label><input class="mono" type="number" id=${`${id}u`} value=${uses} min="0" max="1000000" aria-invalid=${bad ? 'true' : undefined} aria-describedby=${`${id}e`} onInput=${(e) => setUses(e.currentTarget.value)} /><p class="err" id=${`${id}e`} hidden=${!bad}>${bad}</p></div></div>`}</div><//>`;
}

export function Transfer({ status, close }) {
  const { api } = usePage(), id = useName(), work = useWork();
  const [node, setNode] = useState('');
  const voters = status.nodes.filter((n) => n.state === 'voter' && n.reachable);
  const go = () => work.run(async () => {
    await api.post(at`cluster/transfer`, node ? { node } : {});
    close(node ? `Leadership went to ${node}.` : 'Leadership was transferred.');
  });
  return html`<${Dialog} slim title="Transfer leadership" onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} icon="arrow">Transfer<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><label class="label-top" for=${id}>To</label>
    <select id=${id} data-first value=${node} onChange=${(e) => setNode(e.currentTarget.value)}><option value="">The most up-to-date voter</option>${voters.map((n) => html`<option key=${n.node_id} value=${n.node_id}>${n.node_id}</option>`)}</select>
    <p class="muted">Writes pause for a few milliseconds. Reads are not affected.</p></div><//>`;
}

const EFFECTS = {
  promote: ['Make it a voter', 'It counts for the majority from then on. It must keep up with the log.'],
  demote: ['Make it a non-voter', 'It keeps its copy and follows, and no longer counts for the majority.'],
  remove: ['Remove it', 'Its certificate is refused from then on. To come back it joins with a new token.'],
};

export function Act({ node, action, close }) {
  const { api } = usePage(), work = useWork();
  const [verb, effect] = EFFECTS[action.verb];
  const go = () => work.run(async () => {
    await api.post(at`cluster/members/${node.node_id}/${action.verb}`);
    close(`${node.node_id}: ${{ promote: 'a voter now', demote: 'a non-voter now', remove: 'removed' }[action.verb]}.`);
  });
  return html`<${Dialog} slim title=${`${action.label}: ${node.node_id}`} onClose=${() => close()} onSubmit=${go}
    footer=${html`<${Choice} onClose=${() => close()} kind=${action.verb === 'remove' ? 'danger' : 'primary'}>${verb}<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>${effect}</p></div><//>`;
}

export function RevokeJoin({ token, close }) {
  const { api } = usePage(), work = useWork();
  const go = () => work.run(async () => {
    await api.del(at`cluster/tokens/${token.id}`);
    close(`Revoked the token ${token.id}.`);
  });
  return html`<${Dialog} slim title=${`Revoke ${token.id}`} onClose=${() => close()} onSubmit=${go} footer=${html`<${Choice} onClose=${() => close()} kind="danger">Revoke the token<//>`}>
    <div class="pad stack"><${Refused} error=${work.error} /><p>Nobody joins with it any more. Agents that did stay members.</p></div><//>`;
}
