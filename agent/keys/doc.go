// Package keys loads the key material of an agent and generates what is missing on
// the first start: the master key, the key of the last-known-good file, the signing
// key pair, the rebuild token and the API tokens.
//
// Each variable is read from the environment, else from the .env file. Missing ones
// are generated, appended to the file (0600, replaced atomically, the operator's lines
// kept) and only then used. When the file cannot be written, Load returns *Unwritable,
// whose Lines the caller prints once before it stops.
//
// A server that joins a cluster receives all keys (Export, Import), a sidecar the
// public keys and those derived for its service (SidecarLines). A sidecar generates
// only the key of its own last-known-good file.
//
// Invariants:
//
//   - A key is never lost. Import rejects, as a whole, lines that differ from the keys
//     of the agent, and with Options.Joined a server generates none. Rotate keeps the
//     previous key in the _OLD_ variables; only Drop and Undo remove one.
//   - There is no default key. A value that contains CHANGEME, a key of one repeated
//     byte, an all-zero key id, and a key pair that does not match are rejected.
//   - Agents that start with the same .env file at the same time get the same keys:
//     each change of the file takes its lock, and reads it again under the lock.
//   - No error, log value or formatted Set contains a key, a token or a part of one.
//
// The goroutine that starts the agent calls Import and then Load, once. The key
// rotation calls Rotate, Undo and Drop, one at a time, and puts the new Set into the
// Holder. Holder and Sealer, and the immutable Set and Authenticator, are safe for
// concurrent use.
package keys
