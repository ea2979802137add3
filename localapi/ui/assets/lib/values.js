// Documents as values at paths. A path is a list of names, because names may have dots.

export function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** equal compares JSON values; the order of an object's members does not count. */
export function equal(a, b) {
  if (Object.is(a, b) || (a === 0 && b === 0)) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((v, i) => equal(v, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]));
}

/** get gives the value at a path, or undefined. */
export function get(doc, path) {
  let at = doc;
  for (const name of path) {
    if (!isObject(at) || !Object.hasOwn(at, name)) return undefined;
    at = at[name];
  }
  return at;
}

/** put gives a copy of the document with a value at a path. */
export function put(doc, path, value) {
  if (path.length === 0) return value;
  const [name, ...rest] = path;
  return copy(doc, name, put(isObject(doc) && Object.hasOwn(doc, name) ? doc[name] : {}, rest, value));
}

/** drop gives a copy without what is at a path; objects that it leaves empty go as well. */
export function drop(doc, path) {
  if (!isObject(doc) || path.length === 0) return doc;
  const [name, ...rest] = path;
  if (!Object.hasOwn(doc, name)) return doc;
  if (rest.length > 0) {
    const inner = drop(doc[name], rest);
    if (!isObject(inner) || Object.keys(inner).length > 0) return copy(doc, name, inner);
  }
  return Object.fromEntries(Object.entries(doc).filter(([other]) => other !== name));
}

// copy sets one member by entries: an assignment to "__proto__" would set the prototype.
function copy(doc, name, value) {
  const entries = isObject(doc) ? Object.entries(doc) : [];
  const at = entries.findIndex(([other]) => other === name);
  if (at < 0) entries.push([name, value]);
  else entries[at] = [name, value];
  return Object.fromEntries(entries);
}

/** keyOf spells a path as a dotted key; a name with a dot or a quote stands in quotes. */
export function keyOf(path) {
  return path.map((name) => (/[."]/.test(name) || name === '' ? JSON.stringify(name) : name)).join('.');
}
