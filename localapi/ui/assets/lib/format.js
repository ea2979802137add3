// Times, numbers and values as people read them. Times are UTC.

const MINUTE = 60, HOUR = 3600, DAY = 86400;

/** ago says how long before `now` (milliseconds) a time was: "just now", "2 min ago", "41 days ago". */
export function ago(time, now = Date.now()) {
  const s = (now - Date.parse(time)) / 1000;
  if (Number.isNaN(s)) return '';
  if (s < 0) return s > -10 ? 'just now' : `in ${span(-s)}`;
  if (s < 10) return 'just now';
  if (s >= DAY && s < 2 * DAY) return 'yesterday';
  return `${span(s)} ago`;
}

/** span is a length of time in seconds, in its largest whole unit: "12 s", "2 min", "5 h", "3 days". */
export function span(s) {
  if (s < MINUTE) return `${Math.max(0, Math.floor(s))} s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)} min`;
  if (s < DAY) return `${Math.floor(s / HOUR)} h`;
  return Math.floor(s / DAY) === 1 ? '1 day' : `${number(Math.floor(s / DAY))} days`;
}

/** exact is a time with its seconds: "2026-11-24 14:38:21 UTC". */
export function exact(time) {
  const t = new Date(time);
  return Number.isNaN(t.getTime()) ? String(time) : t.toISOString().slice(0, 19).replace('T', ' ') + ' UTC';
}

/** clock is the time of the day with its seconds: "14:38:21". */
export function clock(time) {
  const t = new Date(time);
  return Number.isNaN(t.getTime()) ? String(time) : t.toISOString().slice(11, 19);
}

/** number groups digits by comma: "1,204". */
export function number(n) {
  const [whole, rest] = String(n).split('.');
  if (!/^-?\d+$/.test(whole)) return String(n);
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (rest === undefined ? '' : '.' + rest);
}

/** bytes is a size: "12 B", "4.1 KB", "3.0 MB". */
export function bytes(n) {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KB`;
  return `${(n / 1024 / 1024).toFixed(1)} MB`;
}

/** count is a number with its noun: "1 field", "3 fields". */
export function count(n, noun, many = noun + 's') {
  return `${number(n)} ${n === 1 ? noun : many}`;
}

/** shown is a value as a row shows it: texts as they are, the rest as JSON; an absent one has no text. */
export function shown(value) {
  if (value === undefined) return 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** clipped is shown, but never longer than a list can bear. */
export function clipped(value, most = 200) {
  const text = shown(value);
  return text.length > most ? text.slice(0, most) + '…' : text;
}

/** quoted is a reason: in quotes, or nothing. */
export function quoted(reason) {
  return reason ? `“${reason}”` : '';
}
