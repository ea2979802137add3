// Package backupjob copies the database to the backup target while this agent leads, and
// reports how the backup is.
//
// Invariants: a leadership makes one generation of its own; a copy ends before the store
// closes, and so before anything takes the place of the database; a leader that is deposed
// at once makes no whole copy.
//
// Callers: RunBackup is a leader job and WatchLeader a job of every replica; the admin API,
// health and scrapes read the status concurrently.
package backupjob
