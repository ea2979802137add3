// Package audit writes the access log. Rows are spooled to one file of the data
// directory, and sent to the leader in batches that count once.
//
// Invariants: a row is in the spool before its request gets the response, so it
// survives a kill of the process right after that (not a crash of the machine: the
// spool is flushed only while the cluster does not accept batches). A batch is sent
// again unchanged, under its number, until its outcome is known, also by the next
// process. A row that the spool cannot store goes to the agent's log and is counted.
//
// Callers: request goroutines call Record; Run has one goroutine of the agent, and
// one of its own that writes the spool; scrapes call Collect. The leader's RPC
// handler calls CheckReported and ClampTimestamps, and Prune is a job of the leader.
package audit
