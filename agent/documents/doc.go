// Package documents turns records into what an agent serves: the view of rendered
// documents, the values of secrets in them, and the providers by which the local
// API and the writer of the last-known-good file read the view. Members and
// observers share it.
//
// Invariants: reads touch memory only; the value of a secret is opened once a
// version and stays in memory; only what the replica, or a signature, verified
// goes into the last-known-good file.
//
// Callers: the view calls Secrets.Values and Overlay for one record at a time, at a start
// for several; HTTP handlers call LocalProvider concurrently; the writer of the
// last-known-good file calls LKGProvider.Next on its goroutine.
package documents
