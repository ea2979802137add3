// Package backupjob copies the database to the backup target while this agent leads, and
// reports the state of the backup.
//
// Invariants: a leadership makes one generation of its own; a copy ends before the store
// closes, and so before the database is replaced; a leader that is deposed at once makes
// no full copy.
//
// Callers: RunBackup is a leader job and WatchLeader a job of every replica; the admin API,
// health and scrapes read the status concurrently.
package backupjob
