// Package schema turns a service's JSON Schema into what the rest of the product
// needs of it: the metadata of its fields, its defaults, the validation of a
// document with errors that a person can act on, and the model hash.
//
// A schema is a JSON Schema document (2020-12, 2019-09 or draft-07) as Pydantic
// v2, zod or Go emit it, plus the keywords x-complexity, x-help, x-secret,
// x-secret-source and x-env. Nested objects with declared properties flatten to
// dotted keys; everything else (an array, a free object, a union of models, a
// recursive property) is one leaf.
//
// # Defaults
//
// The effective document is the schema's defaults below the stored values.
// A property without a value takes its own default as it stands. Where a nested
// object is present, by value or by default, even {}, the defaults of its
// properties are filled in, at every depth; what the object's own default says
// of a property wins over the property's, so that a key which is taken back
// returns to what it was. Where the object is absent and has no default it stays
// absent: JSON Schema cannot tell a Pydantic default_factory from an optional
// object of zod or Go, and an object that nobody asked for may switch something
// on. json_schema_extra={"default": {}} asks for it. Defaults inside the elements
// of arrays, of free objects and of unions are left to the service.
//
// # Secrets
//
// A property is a secret by x-secret, writeOnly or format password (Pydantic's
// SecretStr). A leaf with a secret somewhere inside is a secret as a whole. The
// effective document never holds a secret, no message names the value of one,
// and `required` does not ask for it.
//
// # Limits
//
// What a schema could do to the process is bounded when it is compiled: its
// size, the number of its subschemas and fields, the work of checking one value
// (references that multiply, enumerations), and the size of its patterns, which
// run in linear time because they have no lookaround and no back-references. The
// work for a whole document is bounded before it is validated. A $ref leads to
// the same document; nothing is ever loaded.
//
// A *Schema is immutable and safe for concurrent use; so is a *Cache. Edits
// compile and validate on the leader, the store projects items below the log,
// and the edges read fields, each from its own goroutine.
package schema
