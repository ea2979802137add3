// Package alarm holds the table of all alarms that an agent logs, and logs them: each is
// raised once, and ended by a line that says that it is over.
//
// Invariants: a line of level ERROR is logged here only; each Kind has either the text of
// its end or the reason why it has none; what is standing is logged once, until it ends or
// its cause is another one.
//
// Callers: every package that finds a fault. A Set belongs to the part that sees both the
// fault and its end; it is safe for several goroutines.
package alarm
