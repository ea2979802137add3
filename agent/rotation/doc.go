// Package rotation makes the key material of this agent follow the keyring, which is
// replicated and names keys only. Every agent fetches what is announced or active and
// drops what has expired; the leader brings rotations forward.
//
// A key of the keyring goes through these states (conf.Key.State):
//
//	(none) -- Announce --> announced -- Activate --> active -- the next is activated --> old -- NotAfter, retire --> expired
//	                           |
//	                           `-- abort --> withdrawn
//
// What they mean:
//
//   - (none): the leader stores a new key and distributes it. It is announced only when a
//     majority of the voters has it, so that the next leader has it too, or finds a member
//     that has. A distributed key that is never announced is discarded after 30 s.
//   - announced: every member fetches it. It is activated when every voter, every server
//     that answers, and for 30 s every sidecar that answers has it; with Hold (keys
//     prepare) it waits for the command to rotate too.
//   - active: it signs, seals or issues. Services are reissued and secrets resealed.
//   - old: it is accepted for the grace period, a CA until no member's certificate is
//     from it.
//   - expired, withdrawn: it is dropped from the disk when nothing needs it any more.
//
// Each step follows from the keyring and from what the members hold, so that a new
// leader continues where the old one was, and a step that was cut short is repeated.
//
// Locks: Manager.mu is the only one. It is held for every change of key files, of the CA
// and of what is pending, also across the calls to other members that belong to it. What
// those members ask back, and every reader, takes no lock: the key set, the keyring and
// the errors are immutable values behind atomic pointers.
//
// Goroutines: RunKeySync is a job of every replica, RunRotations and Reissuing.Run
// are leader jobs, RenewCertificate is called with each check of the leadership; routes and the admin API call the rest concurrently.
package rotation
