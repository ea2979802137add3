// Package raftguard has the guards against faults of hashicorp/raft, raft-boltdb and
// bbolt, and of the disk below them. Each guard is one file that opens with the fault,
// the test, and how the test fails without the guard (known-bad build).
//
//	guard                      upstream fault                          test                             known-bad build
//	transport.go               raft#695: a heartbeat changes the term  TestHeartbeatFastPath            same test, raft's own fast path
//	                           of a leader that is storing an entry
//	requestfilter.go           raft: a late snapshot drops the log;    TestLateSnapshot,                same tests, raft's own handling
//	                           a late TimeoutNow unseats a leader      TestLateTimeoutNow
//	failfast.go                raft#612: replication ends at a         TestRejectionDoesNotEndReplication same test, raft's own pipeline
//	                           rejected append
//	commitnotify.go            raft: followers get commits after       TestFollowersSeeCommitsAtOnce *  same test, all dropped;
//	                           CommitTimeout                                                            sent too early in TestSimulationFinds *
//	leaderprobe.go             raft: a dead leader is replaced after   TestDeadLeaderIsReplacedAtOnce * TestSilentLeaderIsLeftToTheTimeouts *
//	                           the election timeout
//	diskmonitor.go             raft#503: a node with a hung disk leads TestSlowDiskDoesNotLead *,       TestSlowDiskLeadsWithoutTheGuard *
//	                                                                   TestHungDiskDoesNotLead *
//	failstopstore.go           raft#614, panics on storage errors      TestHaltEndsTheCaller,           same test, raft would panic
//	                                                                   TestFaultsOfTheLogAtRunTime *
//	checksumstore.go           bbolt: data has no checksums            TestEntryChecksum,               same tests, bbolt returns the change
//	                                                                   TestStableChecksum
//	logfile.go                 bbolt: trusts the pages of its file     TestDamagedKeyOfAnEntry,         same test, bbolt misses an entry
//	                                                                   TestFlipsInTheLogsFile *
//	snapshots.go               raft: metadata has no checksum          TestEveryFlipInASnapshotIsFound  TestFileSnapshotStoreTrustsItsMetadata
//	reconcile.go               rqlite#2747, #2759: a snapshot on the   TestSnapshotBeforeTheStore *     same test, raft's own start
//	                           disk is assumed to be applied
//
// Tests with * need a whole node and are in package replication. Its TestVerifyLeaderIsNotTrusted
// and TestRaftWantsAnAnswerForEachEntry show faults whose guards are Node.ReadIndex and the FSM.
//
// No guard: fault.go (the first final error of a node), fsmstate.go (the state in a
// snapshot), hclog.go (raft's log messages).
//
// Invariants:
//   - The package does not import replication. It has no goroutines but those of
//     Transport.Serve, LeaderProbe.Run, pipelines and commit notifications.
//   - A fault never ends the process: it trips the Fault of the node.
//   - A damaged file is never used in part: it is repaired from another one, or
//     conf.CodeCorrupt is returned.
//
// replication.Open calls OpenLogFile, OpenSnapshots and Reconcile before raft starts, on
// its caller's goroutine. Raft's goroutines call FailStopStore, SnapshotStore and
// Transport. The FSM's goroutine calls CommitNotifier.Committed, the node's monitor calls
// DiskMonitor.Check.
package raftguard
