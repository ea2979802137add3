// Addresses of views: the part of the URL behind "#". It never reaches a server or its log.

/** parse reads "#/services/a%2Fb?q=x" as {path: ['services', 'a/b'], query: URLSearchParams}. */
export function parse(hash) {
  const text = hash.replace(/^#\/?/, '');
  const at = text.indexOf('?');
  const path = (at < 0 ? text : text.slice(0, at)).split('/').filter((part) => part !== '').map(decode);
  return { path, query: new URLSearchParams(at < 0 ? '' : text.slice(at + 1)) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a % that a person typed
  }
}

/** href makes the address of a view from its parts and its query. */
export function href(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const tail = given.length > 0 ? '?' + new URLSearchParams(given) : '';
  return '#/' + parts.map(encodeURIComponent).join('/') + tail;
}

/** match finds the view of an address. A pattern is like "services/:name/history". */
export function match(views, hash) {
  const { path, query } = parse(hash);
  for (const view of views) {
    const pattern = view.path.split('/');
    if (pattern.length !== path.length) continue;
    const params = {};
    const fits = pattern.every((part, i) => {
      if (part.startsWith(':')) params[part.slice(1)] = path[i];
      return part.startsWith(':') || part === path[i];
    });
    if (fits) return { view, params, query, path };
  }
  return { view: null, params: {}, query, path };
}

/** linkOf gives the one-time link of "#link=...", or an empty text. */
export function linkOf(hash) {
  return hash.startsWith('#link=') ? decode(hash.slice('#link='.length)) : '';
}
