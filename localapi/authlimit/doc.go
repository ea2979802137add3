// Package authlimit slows down callers that guess tokens: each client address has a bucket
// that failed attempts empty, and while it is empty, attempts from there are rejected
// unchecked.
//
// Invariants:
//
//   - A token that was accepted from an address before is still checked, so that a broken
//     program does not lock out its neighbors.
//   - Memory is bounded, in addresses and in tokens of each. Tokens are kept as hashes.
//
// The handlers of the admin API call it, from any goroutine.
package authlimit
