// Package recovery replaces a lost store. There are five ways; they differ in what is
// lost and kept:
//
//	way      what was lost                        source                          epoch  history  record of it
//	repair   database or log, not both            the other one, by the replica   same   kept     health event
//	rejoin   log of a member (membership)         the leader's snapshot and log   same   kept     rebuild.info, source cluster
//	rebuild  database and log of a single node    memory, LKG file, newest        new    lost     rebuild.pending, then
//	                                              backup, schema defaults                         rebuild.info
//	recover  the quorum, permanently              one server's log or database    new    kept     recover.pending, then
//	                                                                                              rebuild.info, source log or database
//	restore  everything, or a look at the past    a backup, into an empty         new    kept     recover.pending, then
//	                                              directory                                       rebuild.info, source backup
//
// Repair is done by the replica when it opens, rejoin by membership; the other three
// are here.
//
// Invariants:
//   - Damaged files move to quarantine/, together; nothing is overwritten or read again.
//   - An interrupted recovery is found by its pending file and repeated.
//   - A new epoch is signed as the successor of the old one if a key is available.
//   - Tokens of a backup are revoked before the store is used.
//   - All data is verified: records by signature, or else by checksum.
//
// Callers: Recover, RestoreCluster, RestoreFile and ReadFile are commands that need no
// agent; a Manager is used by the replica's supervisor on its one goroutine.
package recovery
