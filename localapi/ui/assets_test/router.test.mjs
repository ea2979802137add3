import assert from 'node:assert/strict';
import test from 'node:test';
import { href, linkOf, match, parse } from '../assets/lib/router.js';

const views = [{ path: 'services' }, { path: 'services/:name' }, { path: 'services/:name/history' }, { path: 'search' }];

test('an address has a view, its names and its query', () => {
  assert.equal(match(views, '#/services').view.path, 'services');
  assert.deepEqual(match(views, '#/services/stt-worker').params, { name: 'stt-worker' });
  assert.equal(match(views, '#/services/a/history?key=x.y').query.get('key'), 'x.y');
  assert.equal(match(views, '#/nothing').view, null);
});

test('names with separators and markup survive the address', () => {
  for (const name of ['a/b', 'a?b#c', '<img src=x>', '100%', 'ü ✓', '..']) {
    assert.equal(match(views, href(['services', name])).params.name, name);
  }
  assert.deepEqual(parse('#/services/100%').path, ['services', '100%'], 'a % that a person typed');
});

test('an empty parameter is left out', () => {
  assert.equal(href(['search'], { q: 'a b', type: '', service: null }), '#/search?q=a+b');
  assert.equal(href(['search']), '#/search');
});

test('a one-time link is told from an address', () => {
  assert.equal(linkOf('#link=abc%2Bd'), 'abc+d');
  assert.equal(linkOf('#/services'), '');
});
