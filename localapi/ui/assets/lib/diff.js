// What differs between two documents, and between two texts by words.
import { equal, isObject, keyOf } from './values.js';

/**
 * changes lists what differs, by key: [{key, path, old, new}]; undefined stands for "not there".
 * `whole` are keys whose value is one value although it is an object.
 */
export function changes(a, b, whole = new Set()) {
  const out = [];
  walk(a ?? {}, b ?? {}, []);
  return out;

  function walk(x, y, path) {
    const key = keyOf(path);
    const deep = path.length === 0 || (!whole.has(key) && (isObject(x) || x === undefined) && (isObject(y) || y === undefined) && (nonEmpty(x) || nonEmpty(y)));
    if (!deep) {
      if (!equal(x, y)) out.push({ key, path, old: x, new: y });
      return;
    }
    const names = [...new Set([...Object.keys(x ?? {}), ...Object.keys(y ?? {})])].sort();
    for (const name of names) walk(own(x, name), own(y, name), [...path, name]);
  }
}

function nonEmpty(value) {
  return isObject(value) && Object.keys(value).length > 0;
}

function own(value, name) {
  return isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

// Over this many comparisons the middle is shown as one piece that is replaced.
const most = 1_000_000;

/** words compares two texts word by word: [{kind: "same" | "del" | "ins", text}]. */
export function words(a, b) {
  const x = split(a), y = split(b);
  let head = 0;
  while (head < x.length && head < y.length && x[head] === y[head]) head++;
  let tail = 0;
  while (tail < x.length - head && tail < y.length - head && x[x.length - 1 - tail] === y[y.length - 1 - tail]) tail++;
  const out = [];
  add(out, 'same', x.slice(0, head).join(''));
  middle(out, x.slice(head, x.length - tail), y.slice(head, y.length - tail));
  add(out, 'same', x.slice(x.length - tail).join(''));
  return out;
}

/** near cuts two long texts to where they differ, with some of what is the same around it: {from, to, same}. */
export function near(from, to, around = 60) {
  let start = 0, end = 0;
  const most = Math.min(from.length, to.length);
  while (start < most && from[start] === to[start]) start++;
  while (end < most - start && from[from.length - 1 - end] === to[to.length - 1 - end]) end++;
  start = Math.max(0, start - around);
  end = Math.max(0, end - around);
  if (start > 0 && /[\udc00-\udfff]/.test(from[start])) start--; // no character is cut in two
  if (end > 0 && /[\udc00-\udfff]/.test(from[from.length - end])) end--;
  const cut = (text) => `${start > 0 ? '…' : ''}${text.slice(start, text.length - end)}${end > 0 ? '…' : ''}`;
  return { from: cut(from), to: cut(to), same: start + end };
}

function split(text) {
  return String(text).match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
}

function middle(out, x, y) {
  if (x.length * y.length > most) {
    add(out, 'del', x.join(''));
    add(out, 'ins', y.join(''));
    return;
  }
  // The longest common subsequence, from the end, so that it can be read from the start.
  const width = y.length + 1;
  const length = new Uint32Array((x.length + 1) * width);
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      length[i * width + j] = x[i] === y[j] ? length[(i + 1) * width + j + 1] + 1 : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  let i = 0, j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      add(out, 'same', x[i]);
      i++;
      j++;
    } else if (i < x.length && (j === y.length || length[(i + 1) * width + j] >= length[i * width + j + 1])) {
      add(out, 'del', x[i++]);
    } else {
      add(out, 'ins', y[j++]);
    }
  }
}

function add(out, kind, text) {
  if (text === '') return;
  const last = out[out.length - 1];
  if (last?.kind === kind) last.text += text;
  else out.push({ kind, text });
}
