// Package upgrade runs clusters of two builds: this one, and one of an earlier commit that
// lacks several features. Servers are upgraded one after the other, in different orders,
// under clients that note all they see, and taken back to the old build.
//
// The old build is made once a run, from the history of the repository. Without that
// history (a shallow clone, an archive) the tests are skipped, aloud.
package upgrade
