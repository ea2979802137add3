// Package pagetest tests the page in a real Chromium: it does what a person does there, and
// asks the admin API what came of it.
package pagetest
