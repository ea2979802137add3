// Package observe decides what an agent that is no member believes of the signed
// updates that reach it: from any broker, or from a member over HTTP.
//
// A Receiver holds the newest update of each service that it was asked for, and
// takes another one only when all of this holds:
//
//   - it is one whole message, byte for byte what a leader writes, with the
//     checksum of its document and the signature of a key that is trusted;
//   - it is of the service that was asked for, and not dated into the future;
//   - it is of the epoch that is held, or of one that a signed change of the epoch
//     leads to from there, or that the operator named. An epoch that was left is
//     never entered again;
//   - its issued_at is later than that of what is held of its epoch.
//
// Whatever else comes is refused, and counted by its Reason. Nothing that is not
// signed decides: the version of a message is a user property, so it orders
// nothing; it is only kept from going back.
//
// What is held is what the last-known-good file keeps, so none of this is
// forgotten over a restart. With an empty data directory there is nothing to hold
// a message against: the first epoch that comes is believed, unless it was named.
//
// A Receiver may be used from any goroutine. It starts none, and never blocks.
package observe
