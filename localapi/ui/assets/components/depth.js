// Simple or all fields, with the count of what is advanced, and the filter. Changed, invalid and
// searched fields always show.
import { useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { Find, Seg } from './basic.js';

/** useDepth keeps the choice in this browser. */
export function useDepth() {
  const [depth, set] = useState(() => {
    try {
      return localStorage.getItem('holdfast.depth') === 'All' ? 'All' : 'Simple';
    } catch {
      return 'Simple';
    }
  });
  return [depth, (next) => {
    set(next);
    try {
      localStorage.setItem('holdfast.depth', next);
    } catch {
      // this page only
    }
  }];
}

/** visible are the rows to draw. `changed`, `invalid` and `found` tell what shows in any case. */
export function visible(rows, { depth, filter, textOf, changed = () => false, invalid = () => false, found = '' }) {
  const q = filter.trim().toLowerCase();
  return rows.filter((row) => {
    if (invalid(row) || row.key === found) return true;
    if (q !== '') return `${row.key}\n${row.description}\n${textOf(row)}`.toLowerCase().includes(q);
    return depth === 'All' || !row.advanced || changed(row);
  });
}

export function DepthTools({ rows, depth, setDepth, filter, setFilter, changed, children }) {
  const advanced = rows.filter((row) => row.advanced);
  const count = advanced.filter(changed).length;
  return html`<div class="tools"><${Find} id="ff" label="Filter keys and values" value=${filter} onInput=${setFilter} />
    <div data-depth=""><${Seg} label="Fields shown" name="depth" value=${depth} options=${['Simple', 'All']} onChange=${setDepth} /></div>
    <span>${advanced.length} advanced${count > 0 ? `, ${count} changed` : ''}</span>${children}</div>`;
}
