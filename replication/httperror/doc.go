// Package httperror holds the one table from error code to HTTP status, and the
// one JSON body of error responses, with its writer and its reader. The local
// API, the admin API and the cluster port use it, and so do their clients.
//
// Invariants:
//
//   - Every code of conf.Codes has a status; a test checks it.
//   - Read returns what Write was given: code, message, hint, details and version.
//   - A client that is gone is owed no response, and its leaving is no fault.
//   - The package decides nothing about what a caller may see. An edge that hides
//     causes fills Body itself, or uses Public.
//
// All functions are safe for concurrent use and run on the goroutine of the
// request.
package httperror
