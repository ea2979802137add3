// Package durable replaces files atomically and durably. A reader finds all of the
// old content or all of the new, also after a power failure and with a full disk:
// the content goes to a temporary file in the same directory, and is renamed only
// when it is completely written, synced and closed.
//
// Its functions keep no state and may be called on any goroutine. Writers of one
// path may run at the same time, except beside RemoveTemps.
package durable
