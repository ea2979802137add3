package alarm

// Ends that several alarms share.
const (
	replicaWorks    = "all is well again: the replica works"
	lkgWritten      = "last-known-good file is written again"
	schemasLoaded   = "every file of the schema directory is loaded"
	agentStarts     = "the agent can start again: it takes over from the last known good values"
	messageSent     = "the external MQTT broker has the message now, or another agent publishes it"
	processEnds     = "the process ends; who started it sees the exit code, and the next one logs what still holds"
	panicSubsides   = "it ends with the request that caused it; report it"
	candidateOver   = "no candidate of a rollout waits here any more"
	rowsLostAlready = "the rows are gone; those that come later are not affected"
)

// The alarms of the process and its files.
var (
	DirNotWritable = &Kind{
		Text: "the data directory cannot be written: what comes now is served from memory, and a restart forgets it",
		End:  "the data directory can be written again",
	}
	DiskFull = &Kind{
		Text: "the disk is almost full: changes are refused here",
		End:  "there is space again",
	}
	ServerFailed = &Kind{Text: "a server failed: stopping", Once: processEnds}
	CannotStart  = &Kind{
		Text: "the agent cannot start: serving the last known good values from memory, refusing everything else, trying again",
		End:  agentStarts,
	}
	NothingToServe = &Kind{Text: "nothing can be served: there is no last-known-good file that its key verifies", Once: processEnds}
	PortNotServed  = &Kind{Text: "a port is not served", End: agentStarts}
	AdminUnserved  = &Kind{
		Text: "nothing answers at the admin port: its certificate cannot be used, and plain HTTP is not allowed",
		End:  agentStarts,
	}
	LKGRefused = &Kind{
		Text: "the last-known-good file is refused; a fresh one is written as soon as there are values",
		End:  lkgWritten,
	}
	LKGUnwritten = &Kind{Text: "cannot write the last-known-good file", End: lkgWritten}
	LKGChanged   = &Kind{
		Text: "last-known-good file was removed or changed by another process, writing it again",
		End:  lkgWritten, Warn: true,
	}
	LKGBehind = &Kind{
		Text: "an update is shown that the last-known-good file does not have",
		End:  "the last-known-good file has every update that is shown",
	}
	MarkDamaged = &Kind{
		Text: "the mark of a refused version is damaged and not used: after a restart that version may be served again",
		Once: "the last-known-good file decides instead; when the service refuses the version again, there is a new mark",
	}
	MarkUnwritten = &Kind{
		Text: "a service refuses its version, and that cannot be written: the version stays",
		End:  "what a service refuses is written again",
	}
	CandidateWaits = &Kind{
		Text: "the candidate of a rollout is not served here: it cannot be written to the disk before",
		End:  candidateOver,
	}
	CandidateWrong = &Kind{
		Text: "the candidate of a rollout is not served here: it or its revert is not what a leader signed",
		End:  candidateOver,
	}
	LocalPanic = &Kind{Text: "local API handler panicked", Once: panicSubsides}
	AdminPanic = &Kind{Text: "admin handler panicked", Once: panicSubsides}
	WatchPanic = &Kind{Text: "local API watch panicked", Once: panicSubsides}
)

// The alarms of the replica.
var (
	ReplicaDown = &Kind{
		Text: "the replica is down: serving the last known good values, refusing writes",
		End:  replicaWorks,
	}
	DatabaseDamaged = &Kind{
		Text: "the database is damaged: rebuilding it from this agent's own snapshot and log",
		End:  replicaWorks,
	}
	DatabaseHeld = &Kind{
		Text: "another process holds the database: changes are refused until it ends",
		End:  "the database is free again",
		Warn: true,
	}
	LogDamaged     = &Kind{Text: "the Raft log is damaged: making it again from the database", End: replicaWorks}
	ReplicaDamaged = &Kind{Text: "the replica is damaged: it is copied again from the cluster", End: replicaWorks}
	ServesDefaults = &Kind{
		Text: "serving the schemas' defaults: neither the database nor the last-known-good file can be read",
		End:  "the stored values are served again instead of defaults",
	}
	AppendHangs = &Kind{Text: "log append hangs, closing cluster connections", End: replicaWorks}
	ApplyStops  = &Kind{Text: "this node stopped applying changes", End: replicaWorks}
	NoBackup    = &Kind{
		Text: "no usable backup, rebuilding from the data of this agent",
		Once: "it tells which source a rebuild takes; the rebuild has an end of its own",
	}
	SnapshotDamaged = &Kind{Text: "ignored a damaged snapshot", End: "a damaged snapshot was removed: a newer one replaces it"}
	SnapshotFails   = &Kind{Text: "no snapshot was made: the log grows until one is", End: "a snapshot was made again"}
	MemberAway      = &Kind{
		Text: "a member cannot be reached",
		End:  "a member is no longer missed: it answers, was removed, or is watched by another leader",
	}
	StatesDiffer = &Kind{
		Text: "the states of members differ, and no majority contradicts this one: a member that a majority contradicts discards its data",
		End:  "the states of members agree again",
	}
	UnknownSigner = &Kind{
		Text: "services in the database are signed by a key that this agent does not know, and are verified by their checksum only: " +
			"if nobody changed the key by hand, an attacker may have written to the database",
		End: "no service in the database is signed by an unknown key any more",
	}
	PortStopped = &Kind{Text: "the cluster port stopped serving", Once: "only a fault of the program ends it; restart the agent, and report it"}
)

// The alarms of what is served.
var (
	SchemasUnread   = &Kind{Text: "schemas were not loaded", End: schemasLoaded}
	SchemaRefused   = &Kind{Text: "a schema was not loaded", End: schemasLoaded}
	SecretNotServed = &Kind{Text: "a stored secret is not served", End: "a stored secret is served again, or is gone"}
	VariableUnfit   = &Kind{
		Text: "a variable does not fit its field: the stored value is served",
		End:  "a variable fits its field now, or is no longer used",
	}
)

// The alarms of rendered files.
var (
	RenderUnread = &Kind{
		Text: "render: the file is not used; what was rendered stays, and what was read before counts",
		End:  "render: read the file",
	}
	RenderFails = &Kind{Text: "render: the files stay as they are, and it is tried again", End: "render: it works again, or is no longer asked for"}
)

// The alarms of the access log.
var (
	AccessLost     = &Kind{Text: "rows of the access log go to this log only", End: "the access log takes rows again"}
	AccessRejected = &Kind{Text: "access log batch permanently rejected", Once: rowsLostAlready}
	SpoolUnusable  = &Kind{
		Text: "access log spool not usable: undelivered rows do not survive a restart",
		End:  "access log spool is in use",
	}
	SpoolDamaged    = &Kind{Text: "access log spool has damaged lines, their rows are lost", Once: rowsLostAlready}
	SpoolUnreadable = &Kind{Text: "access log spool has an unreadable line, its rows are lost", Once: rowsLostAlready}
	SpoolUnwritten  = &Kind{Text: "access log spool not written", End: "access log spool is written again"}
)

// The alarms of MQTT, of certificates and of backups.
var (
	MessageTooLarge  = &Kind{Text: "message too large for the external MQTT broker", End: messageSent}
	MessageRejected  = &Kind{Text: "the external MQTT broker rejected a message", End: messageSent, Warn: true}
	NotEncoded       = &Kind{Text: "cannot publish over MQTT", End: "published over MQTT again"}
	BrokerPanic      = &Kind{Text: "panic on an MQTT connection", Once: panicSubsides}
	CertificateUnfit = &Kind{Text: "cannot use the new certificate, keeping the old one", End: "loaded a new certificate"}
	DrillFailed      = &Kind{Text: "restore drill failed", End: "restore drill succeeded"}
	TargetShared     = &Kind{Text: "another cluster uses the same backup target", End: "no other cluster uses the backup target any more, or another agent makes the backups"}
)
