// Package clients has the client libraries of this build: one source file a language,
// without dependencies, that a program copies. They read the local API.
//
// Invariants:
//
//   - A file works without any other file and without an installed package.
//   - A client never goes back to an older (epoch, version), and writes nothing to disk.
//
// The command holdfast client prints the files.
package clients
