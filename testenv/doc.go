// Package testenv is how Holdfast is tested as its users meet it: real agent
// processes made from the real binary, real clients, real damage.
//
// It holds the harness (StartProcess and Agent for an agent that is a process, StartAgent
// and InProcess for one in the test's own process, which the tests of package agent look
// into, both with API for requests; Await, Binary), the acceptance tests, the sample
// schemas under schemas, the sample services in several languages under
// services, and the benchmarks under bench.
//
// Invariants: no product package imports this one; every process that a test
// starts dies with the test, and with the test process even when that is
// killed; nothing sleeps, conditions are awaited by name with a deadline; every
// agent has its own directory and its own loopback ports, so tests may run in
// parallel.
//
// # When things break
//
// Each row of the table in docs/design/architecture.md, and the tests that do it:
//
//	leader dies                     TestLeaderKills, chaos "kill leader", TestDeadLeaderIsReplacedAtOnce (replication)
//	leader or follower hangs        TestPausedLeader, chaos "pause leader", "pause follower", TestSilentLeaderIsLeftToTheTimeouts
//	quorum lost                     TestQuorumLost, TestReadsThroughAnOutage (-outage=1m -rate=10000)
//	this agent cut off              TestPartitions (held, reset, one way), TestNetworkNamespaces (link down), chaos
//	restart with nothing else alive TestColdStartAlone, TestColdStartFromLKG
//	SQLite locked                   TestDatabaseLocked
//	SQLite corrupt or deleted       TestDamagedMember, TestFlipDatabase, TestDatabaseDeleted
//	both of them, alone             TestRebuildByHand, TestAutoRebuild
//	Raft log, snapshot, term        TestDamagedMember; TestFlipsInTheLogsFile, TestFlipsInTheTerm, TestEveryFlipInASnapshotIsFound (replication)
//	directory wiped                 TestDamagedMember, TestMemberThatLostItsLogComesBackUnderANewID (agent)
//	disk full                       TestFullDisks (almost), TestDiskFullToTheLastByte, TestFullDisk (store)
//	disk slow or hanging            TestSlowDiskDoesNotLead, TestHungDiskDoesNotLead (replication)
//	state differs                   TestMemberThatDiffersIsRebuilt (agent)
//	LKG tampered or torn            TestFlipLKG, TestDamagedMember
//	that, and no replica            TestDefaultsWhenNothingIsLeft (agent)
//	a restored or rebuilt store     TestAutoRebuild, TestClusterLivesOnInOneServer (agent)
//	power cut                       TestKillLoop, TestKill and TestSimulation (replication), chaos "kill all"
//	clocks                          see below
//
// Nothing below the log reads a clock, and Raft's timeouts go by the monotonic
// clock, which no jump of the wall clock moves. What does read the wall clock is
// tested with times of its own: certificates and their renewal, join tokens, the
// ages in the audit log, and issued_at, which grows even when the clock goes back.
// A jump under a running process is not tested: it needs another clock in the
// kernel, and time namespaces do not change the wall clock.
//
// # Guards, and what happens without them
//
//	heartbeat fast path             TestHeartbeatFastPath
//	VerifyLeader with non-voters    TestVerifyLeaderIsNotTrusted
//	snapshot durable before restore TestSnapshotBeforeTheStore
//	snapshot that comes too late    TestLateSnapshot
//	a result for each entry         TestRaftWantsAnAnswerForEachEntry, TestBatch
//	CRC of log entries and values   TestEntryChecksum, TestStableChecksum (bbolt itself gives the change back)
//	log flushed at each entry       TestSimulationFinds
//	wiped voter under its old id    TestSimulationFinds, TestMemberWithLessThanItPromised
//	late TimeoutNow                 TestLateTimeoutNow
//	terms of non-voters             TestTermOfAMemberThatDoesNotVote, TestSidecarThatRaisesTheTerm
//	pipelines end at a rejection    TestRejectionDoesNotEndReplication
//	notify only of committed        TestSimulationFinds, TestNotifiesOnlyAsLeaderOfTheTerm, TestFollowersSeeCommitsAtOnce
//	damaged keys in the log file    TestDamagedKeyOfAnEntry
//	metadata of snapshots           TestFileSnapshotStoreTrustsItsMetadata
//	slow or hung disk               TestSlowDiskLeadsWithoutTheGuard
//	memory of silent connections    TestRaftsTransportIsNotReachable, TestIdleSockets (transport)
//	even numbers of voters          TestVotersAreOdd, TestGrowsFromOneVoterToThree
//	entries of newer builds         TestUndecodableEntries, TestOldBuildIsNotWrittenPast (agent)
//	row digests                     TestFlipsInContent, TestSingleBitFlips (store)
//	snapshot livelock               TestSnapshotLoopIsFound (agent)
//
// Agents that lie to the other members are builds of their own, see KnownBad:
// TestSidecarThatRaisesTheTerm, TestSidecarsReportStopsNothing.
//
// Methods of Agent are called from one goroutine of the test at a time, except
// those that only make requests, which any goroutine may call.
package testenv
