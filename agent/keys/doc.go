// Package keys loads the key material of an agent and makes what is missing on
// the first run: the master key, the key of the last-known-good file, the
// signing key pair, the rebuild token and the API tokens.
//
// Each variable is looked up in the environment first and in the .env file
// second. What neither has is generated, appended to the file (0600, replaced
// atomically, the user's own lines kept) and only then used. When the file
// cannot be written, Load returns *Unwritable: its Lines are what the caller
// prints once before it stops.
//
// A server that joins a cluster receives all of it (Export, Import), a sidecar
// only the public key (PublicLines): it makes a key for its own last-known-good
// file and nothing else.
//
// Invariants:
//
//   - A key that an agent has is never lost. Import refuses, as a whole, what
//     differs from it; Options.Joined keeps a member from making other keys than
//     its cluster's. Rotate puts a new one in its place and keeps the one that is in
//     use in the _OLD_ variables; only Drop removes it.
//   - There is no default key. A value that still says CHANGEME, an all-zero key
//     or key id, and a key pair that does not belong together are refused.
//   - Agents that start on one .env file at the same time end with one set: who
//     generates holds a lock on the file and looks again under it.
//   - No error, log value or formatted Set holds a key, a token or a piece of one.
//
// Import and then Load are called once by the goroutine that starts the agent; Rotate,
// Undo and Drop by the one that tends the keys, which puts the new Set into the Ring. Set and
// Authenticator are immutable afterwards and safe for concurrent use.
package keys
