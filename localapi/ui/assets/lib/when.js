// Ends and moments, beside format.js. Every function takes the time that it compares with.
import { clock, span } from './format.js';

const YEAR = 365 * 86400;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export const millis = (iso) => (iso ? Date.parse(iso) : NaN);

// until says how long after now something ends.
export function until(iso, now) {
  const t = millis(iso);
  if (Number.isNaN(t)) return 'never';
  const left = (t - now) / 1000;
  if (left <= 0) return 'ended';
  return left < 2 * YEAR ? `in ${span(left)}` : `in ${Math.floor(left / YEAR)} years`;
}

// stamp is the clock time of today, else the day with it.
export function stamp(iso, now) {
  const t = millis(iso);
  if (Number.isNaN(t)) return 'never';
  const d = new Date(t), n = new Date(now);
  if (d.toISOString().slice(0, 10) === n.toISOString().slice(0, 10)) return clock(iso);
  const year = d.getUTCFullYear() === n.getUTCFullYear() ? '' : ` ${d.getUTCFullYear()}`;
  return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}${year} ${clock(iso)}`;
}

// day is the day of a time: "22 Feb 2027".
export function day(iso) {
  const d = new Date(iso);
  return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()}`;
}

// took is a short time: "0.8 s" or "14 ms" where span would say "0 s".
export function took(seconds) {
  if (seconds < 0.1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  return seconds < 10 ? `${Math.round(seconds * 10) / 10} s` : span(seconds);
}
