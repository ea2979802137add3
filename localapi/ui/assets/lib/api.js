// The admin API. Every answer is JSON; an error has a message, a code of a closed set and a hint.

/** ApiError is what the agent refused, or why it could not be asked (code "unreachable"). */
export class ApiError extends Error {
  constructor(status, body = {}) {
    super(body.error || `the agent answered ${status}`);
    this.status = status;
    this.code = body.code || 'internal';
    this.hint = body.hint || '';
    this.details = body.details || [];
    this.currentVersion = body.current_version ?? null;
    this.requestId = body.request_id || '';
  }
}

/** outages are the codes that say: nothing is wrong with the request, ask again later. */
export const outages = new Set(['read_only', 'no_quorum', 'stale', 'unreachable', 'locked', 'storage_full']);

/**
 * createApi gives get, post, put, patch and del. `renew` is called at a 401 and resolves when the
 * person has signed in again: then the request is sent once more, so nothing on the page is lost.
 * `seen` hears of every answer ({source, age}) and of every agent that did not answer (an ApiError).
 */
export function createApi({ fetch, renew = null, seen = () => {} }) {
  async function once(method, path, body, options) {
    const headers = { Accept: 'application/json', ...options.headers };
    if (body !== undefined) headers['Content-Type'] = options.type || 'application/json';
    let response;
    let text;
    try {
      response = await fetch(path, {
        method, headers, credentials: 'same-origin', cache: 'no-store', redirect: 'error', signal: options.signal,
        body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      });
      text = await response.text();
    } catch (cause) {
      if (options.signal?.aborted) throw cause;
      const error = new ApiError(0, { error: 'the agent does not answer', code: 'unreachable', hint: 'this page asks again by itself' });
      seen(error);
      throw error;
    }
    let data = {};
    try {
      data = text === '' ? {} : JSON.parse(text);
    } catch {
      data = { error: `the agent answered ${response.status} without JSON`, code: 'internal' };
    }
    if (!response.ok) {
      const error = new ApiError(response.status, data);
      if (outages.has(error.code)) seen(error);
      throw error;
    }
    seen({ source: response.headers.get('X-Config-Source'), age: response.headers.get('X-Config-Age') });
    return { data, headers: response.headers };
  }

  async function call(method, path, body, options = {}) {
    try {
      return await once(method, path, body, options);
    } catch (error) {
      if (error.status !== 401 || options.signIn || !renew) throw error;
      await renew(error);
      return once(method, path, body, options);
    }
  }

  const data = async (...args) => (await call(...args)).data;
  return {
    call,
    get: (path, options) => data('GET', path, undefined, options),
    post: (path, body, options) => data('POST', path, body, options),
    put: (path, body, options) => data('PUT', path, body, options),
    patch: (path, body, options) => data('PATCH', path, body, { type: 'application/merge-patch+json', ...options }),
    del: (path, options) => data('DELETE', path, undefined, options),
  };
}

/** at makes a path of the API: at`services/${name}/versions`. Names are encoded. */
export function at(strings, ...names) {
  return '/api/config/' + strings.reduce((out, s, i) => out + s + (i < names.length ? encodeURIComponent(names[i]) : ''), '');
}

/** withQuery appends the parameters that have a value. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length > 0 ? `${path}?${new URLSearchParams(given)}` : path;
}
