// Package foreign reads the configuration files of other programs (.env, YAML, JSON,
// Java properties, Kubernetes ConfigMaps and Secrets) as one document, and infers a
// schema for it.
//
// Invariants:
//
//   - What is read has one meaning to every reader: where YAML 1.1 and 1.2 differ, or a
//     number does not survive, the value stays text, and Notes says so.
//   - From a format that has text only, a text becomes a number or a boolean only if that is
//     spelled exactly so in the environment of the service: 1.10 and 007 stay text.
//   - A value that may be a secret is in Secret, which prints as asterisks. No error and no
//     note contains a value.
//
// The functions are pure: the command holdfast import reads the files and writes the
// result. All may be called on any goroutine.
package foreign
