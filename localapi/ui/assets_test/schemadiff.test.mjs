import assert from 'node:assert/strict';
import test from 'node:test';
import { allowed, broken, compare, describe, fieldsOf, parsed, read, typeOf, withValue } from '../assets/lib/schemadiff.js';

const before = { properties: {
  vad: { type: 'integer', minimum: 0, maximum: 2000, default: 500 }, channels: { type: 'integer' },
  mode: { enum: ['a', 'b'] }, same: { $ref: '#/$defs/S' } }, $defs: { S: { type: 'string', default: 'x' } } };
const after = { required: ['mode'], properties: {
  vad: { type: 'integer', minimum: 0, maximum: 600, default: 500 }, beam: { type: 'integer', minimum: 1, maximum: 10, default: 5 },
  mode: { enum: ['a', 'b', 'c'] }, same: { type: 'string', default: 'x' }, limits: { $ref: '#/$defs/L' } },
$defs: { L: { type: 'object', properties: { max: { anyOf: [{ type: 'number', exclusiveMinimum: 0 }, { type: 'null' }], default: null } } } } };

test('compare says what is added, changed and removed', () => {
  assert.deepEqual(compare(before, after), {
    added: [{ key: 'beam', text: 'integer, 1 to 10, default 5' }, { key: 'limits.max', text: 'number or null, above 0, default null' }],
    changed: [{ key: 'vad', text: '0 to 600, was 0 to 2000' }, { key: 'mode', text: 'a | b | c, was a | b; required now' }],
    removed: [{ key: 'channels', text: '' }] });
  assert.deepEqual(compare(after, after), { added: [], changed: [], removed: [] });
});

test('a schema that refers to itself, or to nothing, has an end', () => {
  const node = { type: 'object', properties: { next: { $ref: '#/$defs/N' }, name: { $ref: '#/$defs/none' } } };
  assert.ok(fieldsOf({ $ref: '#/$defs/N', $defs: { N: node } }).size > 0);
  assert.equal(fieldsOf({ $ref: '#/$defs/A', $defs: { A: { $ref: '#/$defs/A' } } }).size, 0);
  assert.equal(fieldsOf({ properties: 'none' }).size, 0);
});

test('broken puts the details of a refusal beside the stored values', () => {
  const [vad, channels] = broken([{ key: 'vad', message: 'must be at most 600, got 650' }, { key: 'beam', message: 'is required' }], { vad: 650 }, after);
  assert.deepEqual([vad.has, vad.value, vad.field.type], [true, 650, 'integer']);
  assert.equal(channels.has, false);
});

test('withValue sets and removes by dotted key, and leaves the rest alone', () => {
  const doc = { a: 1, l: { m: 1, 'x.y': 2 } };
  assert.deepEqual(withValue(doc, 'l.m', 5), { a: 1, l: { m: 5, 'x.y': 2 } });
  assert.deepEqual(withValue(doc, 'l."x.y"', undefined), { a: 1, l: { m: 1 } });
  assert.deepEqual(withValue({ l: { m: 1 } }, 'l.m', undefined), {});
  assert.deepEqual(withValue({}, 'n.o', true), { n: { o: true } });
  assert.deepEqual(doc, { a: 1, l: { m: 1, 'x.y': 2 } });
});

test('parsed reads what is typed by the type of its field', () => {
  assert.equal(parsed('600', { type: 'integer' }), 600);
  assert.equal(parsed('600', { type: 'string' }), '600');
  assert.equal(parsed('null', { type: 'string or null' }), null);
  assert.equal(parsed('six', { type: 'integer' }), 'six');
  assert.deepEqual(parsed('[1]', undefined), [1]);
});

test('read names line and column of what is not JSON', () => {
  assert.deepEqual(read('{"a": 1}'), { schema: { a: 1 } });
  assert.match(read('{\n "a": }').error, /line 2, column 7/);
  assert.match(read('[]').error, /object/);
});

test('words of an API field', () => {
  const f = { type: 'float', json_types: ['number', 'null'], validation_min: 0, validation_max: 1, validation_pattern: null, validation_allowed: null };
  assert.deepEqual([typeOf(f), allowed(f)], ['float or null', '0 to 1']);
  assert.equal(allowed({ validation_allowed: Array.from({ length: 5000 }, (_, i) => `v${i}`) }).endsWith('and 4988 more'), true);
  assert.equal(describe({ type: 'string', allowed: '', required: true }), 'string, required');
});
