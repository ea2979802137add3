// Texts that a person typed outside of a form of a service, kept in this tab until they are used.

const prefix = 'holdfast.text.';

/** kept reads a text, '' if there is none; with a value it keeps one, and '' forgets it. */
export function kept(name, value, store) {
  try {
    const at = store ?? globalThis.sessionStorage;
    if (value === undefined) return at.getItem(prefix + name) ?? '';
    if (value === '') at.removeItem(prefix + name);
    else at.setItem(prefix + name, value);
    return value;
  } catch {
    return value ?? ''; // no room, or not allowed: it lasts as long as the view
  }
}
