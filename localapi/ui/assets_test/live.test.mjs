import assert from 'node:assert/strict';
import test from 'node:test';
import { createLive } from '../assets/lib/live.js';

function world() {
  const opened = [], timers = [];
  const page = Object.assign(new EventTarget(), { hidden: false });
  const open = () => {
    const source = Object.assign(new EventTarget(), { closed: false, close() { this.closed = true; } });
    opened.push(source);
    return source;
  };
  const live = createLive({ open, page, later: (fn, ms) => timers.push([fn, ms]) });
  const hide = (hidden) => {
    page.hidden = hidden;
    page.dispatchEvent(new Event('visibilitychange'));
  };
  const send = (source, kind, data) => source.dispatchEvent(Object.assign(new Event(kind), { data }));
  return { opened, timers, live, hide, send, alive: () => opened.filter((s) => !s.closed).length };
}

test('there is one stream, and none while the tab is hidden', () => {
  const w = world();
  w.live.start();
  w.live.start();
  assert.equal(w.alive(), 1);
  w.hide(true);
  assert.equal(w.alive(), 0);
  let again = 0;
  w.live.on('again', () => again++);
  w.hide(false);
  assert.equal(w.alive(), 1);
  w.opened.at(-1).onopen();
  assert.equal(again, 1, 'what happened meanwhile was not heard');
  w.live.stop();
  assert.equal(w.alive(), 0);
});

test('a lost stream is opened again, later each time', () => {
  const w = world();
  w.live.start();
  const pauses = [];
  for (let i = 0; i < 7; i++) {
    w.opened.at(-1).onerror();
    assert.equal(w.alive(), 0);
    const [fn, ms] = w.timers.at(-1);
    pauses.push(ms);
    fn();
  }
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  w.opened.at(-1).onopen();
  w.opened.at(-1).onerror();
  assert.equal(w.timers.at(-1)[1], 1000, 'a stream that opened starts anew');
  w.hide(true);
  w.timers.at(-1)[0]();
  assert.equal(w.alive(), 0, 'a hidden tab does not come back');
});

test('an event reaches who follows it, until they leave', () => {
  const w = world();
  const heard = [];
  const leave = w.live.on('service', (data) => heard.push(data));
  w.live.start();
  w.send(w.opened[0], 'service', '{"service":"a","version":2}');
  leave();
  w.send(w.opened[0], 'service', '{"service":"a","version":3}');
  assert.deepEqual(heard, [{ service: 'a', version: 2 }]);
});
