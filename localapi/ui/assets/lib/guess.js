// Which values are probably secrets, by their names and by what is in them: the rules of "holdfast
// import" (foreign/guess.go), so that both take the same ones.
import { isObject } from './values.js';

const anywhere = new Set(['password', 'passwd', 'passphrase', 'pwd', 'secret', 'secrets', 'credential', 'credentials']);
const ofText = new Set(['token', 'tokens', 'dsn', 'apikey', 'pass', 'bearer', 'jwt', 'cookie', 'salt', 'pin']);
const atEnd = new Set(['key', 'keys', 'auth']);
const noSecret = /(public|primary|partition|sort|routing|cache|foreign|group|index|hot|shortcut)_?keys?$|^(max|min|num|total|n)_?.*tokens?$|tokens?_?(limit|count|budget|window|size|ttl|expiry|timeout|interval|type|header|url|endpoint|issuer)$/i;
const fileName = /(file|path|dir)$/i;
const inside = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY/, /\b(password|passwd|pwd|secret|token|accountkey|sharedaccesskey|api_?key)\s*=\s*[^\s;&]/i,
  /^(?:bearer|basic) [A-Za-z0-9+/_=.~-]{8,}$/i, /^(gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|sk_live_|rk_live_|AKIA|ASIA|eyJ[A-Za-z0-9_-]+\.eyJ)[A-Za-z0-9_.-]{8,}$/,
  /(^|[\s,;])[^\s,;]*:\/\/[^\s,;@/]*:[^\s,;@]+@/,
];

// words splits a name at what is no letter or digit and at the humps of camelCase.
const words = (name) => name.replace(/([\p{Ll}\d])(\p{Lu})/gu, '$1 $2').replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, '$1 $2').toLowerCase().split(/[^\p{L}\d]+/u).filter(Boolean).map((w) => w.replace(/\d+$/, ''));

function secretName(name, isText) {
  const list = words(name);
  if (list.some((w) => anywhere.has(w))) return true;
  return isText && !noSecret.test(name) && (list.some((w) => ofText.has(w)) || atEnd.has(list.at(-1)));
}

// A number of a few digits is too short for a secret.
const small = (text) => text.length < 6 && text.trim() !== '' && Number.isFinite(Number(text));

/** guessed tells whether the value under a name is probably a secret, or has one in it. */
export function guessed(name, value) {
  if (typeof value === 'string') {
    const isFile = fileName.test(name) && /^\.?\//.test(value);
    return (!isFile && secretName(name, !small(value))) || inside.some((rule) => rule.test(value));
  }
  if (typeof value === 'number') return secretName(name, !small(String(value)));
  if (Array.isArray(value)) return value.some((item) => guessed(name, item));
  if (!isObject(value)) return false;
  return Object.entries(value).some(([inner, item]) => guessed(inner, item) || (secretName(name, false) && guessed(name, item)));
}
