// Package seal makes and checks the bytes that Holdfast signs: the RFC 8785
// canonical form, the checksum, the Ed25519 signature of an update and the HMAC
// of the last-known-good file, and the sealed form of a secret. It is the only
// decoder of signed bytes.
//
// Invariants:
//
//   - Canonical output is a fixed point: it parses under conf.ParseJSON and
//     canonicalises to itself. Numbers for which RFC 8785 would print another
//     integer than was meant (2^53 and beyond) are refused, never rounded.
//   - What Verify accepts is what was signed: every member of the update is under
//     the signature, and the pieces that SignedBytes joins with "|" cannot hold
//     one, except config, which the fixed pieces around it delimit.
//   - There is one spelling of a checksum, of a signature and of a time; another
//     spelling of the same value is refused, so a byte that changes is noticed.
//   - A sealed secret opens only as what it was sealed as: epoch, service, key and
//     key id are bound to it, each with its length before it.
//
// The signed bytes are version|service|JCS(config)|checksum|config_epoch|issued_at
// in UTF-8. A client in another language rebuilds them from the decoded message;
// testdata/vectors.json holds examples to test one against.
//
// Everything here but SealSecret, which draws a nonce, is a pure function or an
// immutable value; all of it is safe for concurrent use. Only a leader seals.
package seal
