// Package seal creates and verifies signed and sealed bytes: the RFC 8785 canonical
// form, the checksum, the Ed25519 signatures of updates and epoch changes, the HMAC of
// the last-known-good file, and the sealed form of a secret. It is the only decoder of
// signed bytes.
//
// Invariants:
//
//   - Canonical output is a fixed point: it parses under conf.ParseJSON and
//     canonicalizes to itself. Numbers that RFC 8785 would print as another integer
//     (2^53 and beyond) are rejected, never rounded.
//   - The signature covers every member of an update, and the parts joined with "|"
//     do not contain one, except config, which the parts around it delimit.
//   - A checksum, a signature and a time have one spelling; every other spelling is
//     rejected, so each changed byte is detected.
//   - A sealed secret opens only as what it was sealed as: epoch, service, key and
//     key id are its associated data, each with its length before it.
//
// The signed bytes are version|service|JCS(config)|checksum|config_epoch|issued_at
// in UTF-8. A client in another language rebuilds them from the decoded message;
// testdata/vectors.json holds examples to test one against.
//
// All functions except SealSecret, which draws a nonce, are pure, and all values are
// immutable: everything is safe for concurrent use, on any goroutine. Only a leader
// seals and signs.
package seal
