// Package render writes the configuration of services into files, for programs that read
// files: in a format (JSON, YAML, TOML, .env, .properties, INI) or through a template. What
// it writes is said by render.yaml, a local file that nobody else may write; nothing that
// is replicated can make it write a file or run a command.
//
// A group of targets changes together. For each group, in this order: all targets are
// rendered from one reading, all of them are checked, all are renamed into place, and the
// program that reads them is told once.
//
// Invariants:
//
//   - A target is all of the old content or all of the new, also after a kill at any
//     moment: the new one is written beside it, synced and renamed.
//   - What fails keeps the files as they were, and is tried again. A group whose files are
//     as they should be is left alone: no rename, no reload.
//   - A group never goes back to an older version of a service. Beside its first target it
//     keeps which versions it was rendered from, and that a reload is due, so that this
//     holds across restarts.
//   - Files with secrets are not readable by others. No value is in a log line or an error;
//     what a program prints about a file with secrets is not shown.
//
// Callers: the agent runs a Job as one of its own; the command holdfast render does the
// same beside an agent, or calls Open and a Group's methods itself. A Job has a goroutine
// for each group; Err and Collect may be called on any.
package render
