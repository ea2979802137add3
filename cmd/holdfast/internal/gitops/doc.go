// Package gitops has the commands that keep configuration in a directory of files, which
// is usually a git repository: plan, apply and pull.
//
// A directory has three kinds of files, each named by what it describes:
//
//	services/NAME.yaml   values: the stored values; secrets: where each secret comes from
//	schemas/NAME.json    the JSON Schema of the service
//	profiles/NAME.yaml   description, and services: values of several services
//
// Invariants:
//   - A file never has the value of a secret, and pull never writes one.
//   - Plan changes nothing. Apply makes, for each service, one change with schema and values
//     together or none, on the version that the plan saw.
//   - What is equal is not written, by apply to the cluster and by pull to the files: both
//     can be repeated, also after an interruption.
//
// Everything runs on the goroutine of the command.
package gitops
