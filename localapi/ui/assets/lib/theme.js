// Light, dark, or what the system says. Kept in this browser.

const root = document.documentElement;

/** theme reads the choice: "light", "dark" or "" (the system's); with a choice it sets it. */
export function theme(choice) {
  try {
    if (choice !== undefined) localStorage.setItem('holdfast.theme', choice);
    const kept = choice ?? localStorage.getItem('holdfast.theme') ?? '';
    if (kept === 'light' || kept === 'dark') root.dataset.theme = kept;
    else delete root.dataset.theme;
    return kept;
  } catch {
    if (choice) root.dataset.theme = choice; // a private window keeps it for this page
    return choice || '';
  }
}

/** toggleTheme changes between light and dark. */
export function toggleTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  theme(dark ? 'light' : 'dark');
}
