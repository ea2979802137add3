// Package raftguard has the guards against faults of hashicorp/raft, raft-boltdb and
// bbolt, and of the disk below them. Each guard is one file that opens with the upstream
// fault, the tests, and the proof that they can fail without the guard (known-bad build):
//
//	transport.go      hashicorp/raft#695: a heartbeat changes the term while the leader stores an entry
//	                  test: TestHeartbeatFastPath
//	                  known-bad build: same test on raft's fast path
//	requestfilter.go  hashicorp/raft: a late snapshot drops the log, a late TimeoutNow unseats a leader
//	                  test: TestLateSnapshot, TestLateTimeoutNow
//	                  known-bad build: same tests without the filter
//	termguard.go      hashicorp/raft#526: the term of a member that does not vote is taken over
//	                  test: TestTermOfAMemberThatDoesNotVote, TestOnlyVotersRaiseTheTerm *
//	                  known-bad build: the first without the guard
//	failfast.go       hashicorp/raft#612: replication ends after a rejected append
//	                  test: TestRejectionDoesNotEndReplication
//	                  known-bad build: same test on raft's pipeline
//	absentpeer.go     hashicorp/raft: a member that was away gets no entries for up to 10 s
//	                  test: TestReturningMemberGetsEntriesAtOnce
//	                  known-bad build: same test without the guard
//	commitnotify.go   hashicorp/raft: followers get the commit index after CommitTimeout
//	                  test: TestFollowersSeeCommitsAtOnce *
//	                  known-bad build: same test with all dropped; sent too early in TestSimulationFinds *
//	leaderprobe.go    hashicorp/raft: a dead leader is replaced after the election timeout
//	                  test: TestDeadLeaderIsReplacedAtOnce *
//	                  known-bad build: TestSilentLeaderIsLeftToTheTimeouts *
//	diskmonitor.go    hashicorp/raft#503: a node whose disk hangs leads
//	                  test: TestSlowDiskDoesNotLead *, TestHungDiskDoesNotLead *
//	                  known-bad build: TestSlowDiskLeadsWithoutTheGuard *
//	failstopstore.go  hashicorp/raft#614, panics of raft: a storage error ends the process
//	                  test: TestHaltEndsTheCaller, TestFaultsOfTheLogAtRunTime *
//	                  known-bad build: the first on a ChecksumStore
//	checksumstore.go  bbolt: data has no checksums
//	                  test: TestEntryChecksum, TestStableChecksum
//	                  known-bad build: same tests read the change from bbolt
//	logfile.go        bbolt: trusts the pages of its file
//	                  test: TestDamagedKeyOfAnEntry, TestFlipsInTheLogsFile *
//	                  known-bad build: the first opens the file with bbolt
//	snapshots.go      hashicorp/raft: metadata of a snapshot has no checksum
//	                  test: TestEveryFlipInASnapshotIsFound
//	                  known-bad build: TestFileSnapshotStoreTrustsItsMetadata
//	reconcile.go      rqlite#2747, rqlite#2759: a snapshot on the disk is assumed to be applied
//	                  test: TestSnapshotBeforeTheStore *
//	                  known-bad build: same test on raft's own start
//
// Tests with * need a whole node and are in package replication. Its
// TestVerifyLeaderIsNotTrusted and TestRaftWantsAnAnswerForEachEntry show faults whose
// guards are there: Node.ReadIndex and the batches of the FSM.
//
// No guard: fault.go (the first final error of a node), fsmstate.go (the state in a
// snapshot), hclog.go (raft's log messages), compact.go (changes of a closed log file).
// Package walstore has the guards of a log in segments.
//
// Invariants:
//   - The package does not import replication. It starts goroutines only for pipelines
//     and commit notifications.
//   - A fault never ends the process: it trips the Fault of the node.
//   - A damaged file is never used in part: it is repaired from another one, or
//     conf.CodeCorrupt is returned.
//
// replication.Open calls OpenLogFile, OpenSnapshots and Reconcile before raft starts, on
// its caller's goroutine. Raft's goroutines call FailStopStore, SnapshotStore and
// Transport. The FSM's goroutine calls CommitNotifier.Committed, the node's monitor calls
// DiskMonitor.Check. Transport.Serve and LeaderProbe.Run each have a goroutine of the node.
package raftguard
