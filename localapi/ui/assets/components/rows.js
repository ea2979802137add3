// Rows in their groups: the members of a nested object stand together.
import { html } from '../lib/html.js';

/** grouped gives runs of rows with the same parent: [{group, text, rows}]. */
export function grouped(rows) {
  const out = [];
  for (const row of rows) {
    const name = row.group ? row.group.join('.') : '';
    const last = out[out.length - 1];
    if (name !== '' && last?.name === name) last.rows.push(row);
    else out.push({ name, text: row.groupText, rows: [row] });
  }
  return out;
}

/** EditRows draws groups as a fieldset with its name. `draw(row, inside)` draws a row. */
export function EditRows({ rows, draw }) {
  return html`<ul class=${`fields${rows.length > 60 ? ' long' : ''}`}>${grouped(rows).map((part) => {
    if (part.name === '') return html`<li key=${part.rows[0].key}>${draw(part.rows[0], false)}</li>`;
    return html`<li key=${`${part.name} ${part.rows[0].key}`}><div class="field edit"><div><span class="key">${part.name}</span>${part.text && html`<p class="about">${part.text}</p>`}</div></div>
      <fieldset class="nest"><legend class="sr">${part.name}</legend>${part.rows.map((row) => html`<div key=${row.key} id=${`f-${row.key}`}>${draw(row, true)}</div>`)}</fieldset></li>`;
  })}</ul>`;
}
