// Names of services, as the agent takes them.

const rule = /^[a-z][a-z0-9-]*$/;

/** badName says what is wrong with the name of a service; an empty text if nothing is. */
export function badName(name) {
  if (name === '') return 'A service needs a name.';
  if (name.length > 128) return 'At most 128 characters.';
  return rule.test(name) ? '' : 'Lower-case letters, digits and hyphens, a letter first.';
}

/** nameOf makes the name of a service of that of a file: "STT_Worker.schema.json" is stt-worker. */
export function nameOf(file) {
  const name = file.replace(/(\.schema)?\.[^.]*$/, '').toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^[^a-z]+|-+$/g, '');
  return badName(name) === '' ? name : '';
}
