// Package ofrep answers programs with an OpenFeature SDK: the configuration of a service
// as feature flags, by the OpenFeature Remote Evaluation Protocol (OFREP) 0.3.0. It is a
// room of the local API; docs/http.md is its reference. The agent, the observer and the
// server of the last-known-good file register it.
//
// A flag is a key of the document, with the value that the local API has for it. The
// context of a question decides nothing, and is only checked for its form.
//
// # Invariants
//
//   - Answers come from memory: the document, and what is derived from it at the first
//     question and kept until there is a newer one.
//   - A secret is no flag, for any caller.
//   - Every answer has the form that the OpenAPI document of the protocol describes, with
//     what some providers take for granted besides: "variant" and "metadata" are always
//     there, and a number that is no integer by its schema is written with a fraction.
//   - The ETag of all flags identifies what they say. A caller that has a later version
//     of the same epoch is told that nothing has changed: it must not go back.
//   - At most maxReading bodies are read at the same time.
//
// # Goroutines
//
// Handlers run on the goroutine of their connection, any number at once; the package
// starts none.
package ofrep
