// Package typegen writes the types of a schema in the language of a service: dataclasses
// for Python, interfaces for TypeScript, structs for Go.
//
// Invariants:
//
//   - What is written compiles, whatever the schema says: names are made identifiers, and
//     texts of the schema are comments and literals that end where they should.
//   - A document of the agent fits: a key that may be absent is optional, one that may be
//     null is nullable. What a language cannot say, such as a union in Go, is any value.
//   - The same schema gives the same text.
//
// Generate is a pure function; the command holdfast schema types calls it.
package typegen
