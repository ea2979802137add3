// Package browser opens pages in a real Chromium, for tests: it finds controls as a person does,
// by their names, waits for named conditions, and looks at what everybody needs of a page.
//
// A test process has one Chromium, started when the first test opens a tab. Each Tab has a
// profile of its own: its cookies and its storage are those of nobody else. End closes the
// browser; TestMain of a package calls it.
//
// Invariants: nothing sleeps and nothing has a time of its own to come true, what is awaited has
// a name; only the start of the browser is tried again, never a step of a test; a tab fails its
// test at the end for anything that the console or the policy of the page complained about.
//
// Tests of pages call this package. It knows addresses, and nothing of agents: package testenv
// may use it, too.
package browser
