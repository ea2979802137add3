// Package change has the commands that change the configuration of a service, or
// show what a change would do: set, unset, edit, validate, diff, rollback, delete
// and secret. All use the admin API, and each change is one new version or none.
//
// The value of a secret is never an argument, and no error repeats it.
package change
