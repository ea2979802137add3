// Package backup keeps a copy of the database at another place while this node
// leads, lists the copies, and restores them. It is the one user of Litestream.
//
// A copy is a generation: what one leadership wrote, below
// <path>/<config_epoch>/<term>-<node>/ (<term>.2-<node> when the same leadership
// had to begin again). Beside Litestream's files it has a file holdfast.json,
// the Mark, which tells whose it is and when it was last proved.
//
// Invariants:
//
//   - A path has one writer, ever. Every file differs physically from that of the
//     other nodes, so a deposed leader that writes on does so where no other
//     does; Litestream's local state is removed before a generation begins, and a
//     path that holds anything is never taken.
//   - No write waits for the backup: it reads the WAL, once a second.
//   - While a generation runs, Litestream alone makes the checkpoints (Options.Own).
//   - What waits for the network is bounded: above Options.MaxLocal the generation
//     is given up, and the next one begins, whole, when the place answers again.
//   - Only a drill says that a backup is good: restored to a file of its own,
//     checked by Options.Check, and its digest compared with that of the state.
//   - The newest generation and the newest one that was verified are never removed.
//   - Nothing of another cluster is removed, and nothing of it is restored unless it
//     is named in full. Earlier epochs of a cluster are its own: a Mark names them, and
//     the keys. Whoever finds another cluster at its place says so in its Status.
//
// Start begins a Runner with its own goroutines, until Stop. List, Restore and
// Prune need no Runner and no agent. A Runner's methods are safe for concurrent use.
package backup
