// Package cogtest tests profiles, secrets, schemas and the settings of the page in a real
// Chromium: it does what a person does there, and asks the admin API what came of it.
package cogtest
