// Package updates verifies the signed updates that an observer, an agent that is no
// member, receives from any broker, or from a member over HTTP.
//
// A Receiver has the current update of each requested service, and accepts another one
// only if all of this holds:
//
//   - it is one whole message, byte for byte what a leader writes, with the checksum of
//     its document and the signature of a trusted key;
//   - it is of a requested service, and not dated in the future;
//   - it is of the current epoch, or of one that signed epoch changes lead to from there,
//     or that the operator named. A past epoch is never entered again;
//   - its issued_at is later than that of the current one of its epoch.
//
// Everything else is rejected, and counted by its Reason. Unsigned data decides nothing:
// the version of a message is a user property, so it orders nothing; it only cannot
// decrease.
//
// The last-known-good file stores the current records and epochs, so that a restart loses
// none of this. With an empty data directory there is nothing to compare a message with:
// the first epoch is accepted, unless the operator named one.
//
// A Receiver may be used from any goroutine. It starts none, and never blocks.
package updates
