// Package backup uploads the database to a backup target while this node leads, lists the
// backups, and restores them. It is the one user of Litestream.
//
// A backup consists of generations: the files of one leadership, below
// <path>/<config_epoch>/<term>-<node>/ (<term>.2-<node> if the same leadership had to
// start again). Beside Litestream's files a generation has a manifest, holdfast.json,
// which names its cluster and its last successful restore drill.
//
// Invariants:
//
//   - A path has one writer, ever. The file of each node differs physically, so a
//     deposed leader must not write to the path of another. Litestream's local state is
//     removed before a generation starts, and a path that contains anything is not used.
//   - Writes never wait for the backup: it reads the WAL once a second.
//   - While a generation runs, only Litestream makes checkpoints (Options.Own).
//   - The bytes that wait for the network are bounded: above Options.MaxLocal the
//     generation ends, and the next one starts with a whole copy when the target responds.
//   - Only a restore drill shows that a backup is good: restored to a file, checked by
//     Options.Check, and its digest compared with that of the state.
//   - The newest generation and the newest verified one are never removed.
//   - Generations of another cluster are never removed, and are restored only by their full
//     id. Earlier epochs of a cluster are its own: the manifest lists them, and the keys.
//     Generations of another cluster at the target are reported in Status.
//
// Start starts a Runner with its own goroutines, until Stop. List and Restore need no
// Runner and no agent. A Runner's methods are safe for concurrent use.
package backup
