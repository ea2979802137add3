import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { drawable, format, limits, parse, parseJSON, rowsOf, typeText, suggested } from '../assets/lib/fields.js';

const field = (key, type, more = {}) => ({ key, service: 's', type, complexity: 'simple', description: '', help_text: '', is_secret: type === 'secret', secret_source: null,
  validation_min: null, validation_max: null, validation_pattern: null, validation_allowed: null, ...more });
const one = (f, node = {}) => rowsOf({ fields: [f], schema: { properties: { [f.key]: node } } })[0];

test('each type of a field has its control', () => {
  assert.equal(one(field('a', 'string', { default: 'x' })).kind, 'string');
  assert.equal(one(field('a', 'string', { default: 'x' }), { maxLength: 8000 }).kind, 'text');
  assert.equal(one(field('a', 'integer', { default: 1 })).kind, 'integer');
  assert.equal(one(field('a', 'float', { default: 1 })).kind, 'float');
  assert.equal(one(field('a', 'boolean', { default: true })).kind, 'boolean');
  assert.equal(one(field('a', 'enum', { validation_allowed: ['x', 'y'] })).kind, 'choice');
  assert.equal(one(field('a', 'path', { default: '/x' })).kind, 'path');
  assert.equal(one(field('a', 'secret')).kind, 'secret');
  assert.equal(one(field('a', 'string', { json_types: ['array'] }), { type: 'array', items: { type: 'string' }, maxItems: 4 }).kind, 'json');
  assert.equal(one(field('a', 'string', { json_types: ['string', 'integer'] })).kind, 'json');
  const nullable = one(field('a', 'string', { json_types: ['string', 'null'], default: null }), { anyOf: [{ type: 'string', format: 'uri' }, { type: 'null' }] });
  assert.deepEqual([nullable.kind, nullable.nullable, nullable.hasDefault, nullable.default], ['string', true, true, null]);
});

test('bounds, patterns and texts come from the schema, through references', () => {
  const answer = {
    fields: [field('retry.attempts', 'integer', { validation_min: 1, validation_max: 10, default: 3, complexity: 'advanced' }), field('top_p', 'float', { validation_min: 0, validation_max: 1 })],
    schema: { $defs: { Retry: { description: 'What to retry', properties: { attempts: { type: 'integer', minimum: 1, maximum: 10 } } } },
      properties: { retry: { $ref: '#/$defs/Retry' }, top_p: { type: 'number', exclusiveMinimum: 0, maximum: 1 } } },
  };
  const [top, attempts] = rowsOf(answer);
  assert.equal(top.key, 'top_p', 'simple fields come first');
  assert.deepEqual(limits(top), ['above 0, at most 1']);
  assert.deepEqual(limits(attempts), ['1 to 10']);
  assert.deepEqual([attempts.group, attempts.groupText, attempts.path], [['retry'], 'What to retry', ['retry', 'attempts']]);
  assert.equal(typeText(attempts), 'integer, 1 to 10');
  assert.deepEqual(limits(one(field('a', 'string'), { minLength: 1, maxLength: 120 })), ['1 to 120 characters']);
  assert.deepEqual(limits(one(field('a', 'string', { validation_pattern: '^[a-z]+$' }))), ['must match ^[a-z]+$']);
});

test('a reference to itself ends', () => {
  assert.equal(rowsOf({ fields: [field('a', 'string')], schema: { $defs: { L: { $ref: '#/$defs/L' } }, properties: { a: { $ref: '#/$defs/L' } } } })[0].kind, 'string');
});

test('names with dots keep their path', () => {
  assert.deepEqual(one(field('labels."app.name"', 'string', { path: ['labels', 'app.name'] })).path, ['labels', 'app.name']);
});

test('what is typed is read by its type', () => {
  const integer = one(field('a', 'integer')), float = one(field('a', 'float'));
  assert.deepEqual(parse(integer, ' 12 '), { value: 12 });
  assert.deepEqual(parse(float, '.5'), { value: 0.5 });
  assert.deepEqual(parse(float, '1e-3'), { value: 0.001 });
  assert.equal(parse(integer, '1.5').error, 'must be a whole number');
  assert.equal(parse(integer, '9007199254740993').error, 'must be below 2^53');
  for (const text of ['', 'x', '1,5', '0x10', 'Infinity', 'NaN', '1 2']) assert.ok(parse(float, text).error, text);
  assert.deepEqual(parse(one(field('a', 'enum', { validation_allowed: ['1'] }), { enum: [1, 2] }), '2'), { value: 2 }, 'a number stays one');
  assert.deepEqual(parse(one(field('a', 'string')), ' x '), { value: ' x ' }, 'a text is kept as it is');
});

test('a mistake in JSON has its line and column', () => {
  for (const [text, error] of [
    ['[1,\n 2,,]', 'is not JSON (line 2, column 4): unexpected ","'], ['["a" "b"]', 'is not JSON (line 1, column 6): unexpected "\\""'],
    ['{"a":1', 'is not JSON (line 1, column 7): it ends too early'], ['{a:1}', 'is not JSON (line 1, column 2): unexpected "a"'],
    ['[1]]', 'is not JSON (line 1, column 4): unexpected "]"'], ['[01]', 'is not JSON (line 1, column 2): unexpected "0"'], ['{"a":1,}', 'is not JSON (line 1, column 8): unexpected "}"'],
    ['"a\nb"', 'is not JSON (line 1, column 1): unexpected "\\""'], ['nul', 'is not JSON (line 1, column 1): unexpected "n"'], ['[]\n🙂', 'is not JSON (line 2, column 1): unexpected "🙂"'],
  ]) assert.equal(parseJSON(text).error, error, text);
  assert.deepEqual(parseJSON('{"a":[1]}'), { value: { a: [1] } });
  assert.equal(parseJSON('  ').error, 'enter JSON');
});

test('the text of a value is read back as that value', () => {
  for (const [type, value] of [['integer', -3], ['float', 0.1], ['string', 'a "b"\n'], ['path', '/x']]) {
    const row = one(field('a', type));
    assert.deepEqual(parse(row, format(row, value)).value, value);
  }
  const json = one(field('a', 'string', { json_types: ['array'] }));
  assert.deepEqual(parse(json, format(json, ['\n', { x: null }])).value, ['\n', { x: null }]);
});

test('a document with values outside of the rows is not for the form', () => {
  const rows = rowsOf({ fields: [field('a', 'string'), field('n.x', 'integer')], schema: {} });
  assert.ok(drawable(rows, { a: 'x', n: { x: 1 } }));
  assert.ok(drawable(rows, {}));
  assert.ok(!drawable(rows, { a: 'x', other: 1 }));
  assert.ok(!drawable(rows, { n: { y: 1 } }));
  assert.ok(!drawable([], { a: 1 }));
});

test('every schema of the samples resolves', () => {
  const dir = new URL('../../../testenv/schemas/', import.meta.url);
  for (const name of fs.readdirSync(dir)) {
    const schema = JSON.parse(fs.readFileSync(new URL(name, dir)));
    const keys = Object.keys(schema.properties);
    assert.ok(keys.length > 0, name);
    for (const row of rowsOf({ schema, fields: keys.map((key) => field(key, 'string')) })) assert.ok(row.kind, `${name} ${row.key}`);
  }
});

test('of thousands of choices only near ones are suggested', () => {
  const many = Array.from({ length: 5000 }, (_, i) => `member-${i}`);
  assert.equal(suggested(many, '').length, 100);
  assert.deepEqual(suggested(many, 'MEMBER-499').slice(0, 2), ['member-499', 'member-4990']);
  assert.equal(suggested(many, 'member-77')[0], 'member-0', 'one that is chosen does not hide the others');
  assert.deepEqual(suggested([1, 2, 12], '2'), ['1', '2', '12']);
  assert.deepEqual(suggested(many, 'none'), []);
});
