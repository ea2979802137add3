// Package ui serves the web page of an agent: the page itself at /, and the files that it
// loads at /ui/. They are embedded in the binary as they are in the repository: ES modules,
// a stylesheet and an icon sprite, without a build step.
//
// # Names
//
// A file is served under a name with a hash of its content, so that browsers keep it for
// ever: lib/diff.js is at /ui/lib/diff.HASH.js. A new content has another name, and a name
// that the binary does not have is 404. Modules import each other by their plain relative
// paths; the import map in the page leads these, and the bare names preact, preact/hooks and
// htm, to the hashed names. The page itself is never kept.
//
// The page names what app.js imports, for one go. What a view imports by a call is fetched when the
// first load is over.
//
// # Invariants
//
//   - The page takes its data from the admin API of its own origin, and nothing from
//     elsewhere: the content security policy allows no other address, no inline script but
//     the import map (by its hash), no inline style, and no HTML from strings (Trusted Types).
//   - Nothing here is secret, and nothing needs a token: a caller that reaches the port may load
//     the page. What it shows is up to the admin API.
//
// A Site is made once and safe for concurrent use; the package starts no goroutine.
package ui
