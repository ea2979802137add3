// A schema made of values: enough to begin with, and to be made stricter later.
import { guessed } from './guess.js';
import { isObject, keyOf, put } from './values.js';

const plainName = /^[a-z][a-z0-9_]*$/;

/**
 * infer gives {schema, config, secrets} of a document: its values become defaults. What is
 * probably a secret becomes one instead: its key is in `secrets`, and its value in `config` only.
 */
export function infer(values) {
  const secrets = [];
  let config = {}, usual = true;
  const object = (doc, path) => {
    const properties = Object.entries(doc).map(([name, value]) => {
      const at = [...path, name];
      usual &&= plainName.test(name);
      if (isObject(value) && Object.keys(value).length > 0) return [name, object(value, at)];
      if (!guessed(name, value) && !path.some((above) => guessed(above, { [name]: value }))) return [name, { ...typeOf(value), default: value }];
      secrets.push(keyOf(at));
      if (value !== '') config = put(config, at, value);
      return [name, { ...typeOf(value), 'x-secret': true }];
    });
    return { type: 'object', additionalProperties: false, properties: Object.fromEntries(properties) };
  };
  const schema = object(values, []);
  return { schema: usual ? schema : { ...schema, 'x-keys': 'any' }, config, secrets };
}

function typeOf(value) {
  if (value === null) return { type: ['string', 'null'] };
  if (Array.isArray(value)) {
    const types = new Set(value.map((item) => (isObject(item) || Array.isArray(item) || item === null ? '' : scalar(item))));
    return types.size === 1 && !types.has('') ? { type: 'array', items: { type: [...types][0] } } : { type: 'array' };
  }
  return { type: isObject(value) ? 'object' : scalar(value) };
}

function scalar(value) {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'integer' : 'number';
  return typeof value;
}
