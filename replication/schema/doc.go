// Package schema compiles the JSON Schema of a service. It provides the metadata of
// the fields, the effective document with its defaults, validation with errors that
// a person can act on, and the model hash.
//
// A schema is a JSON Schema document (2020-12, 2019-09 or draft-07) as Pydantic
// v2, zod or Go emit it, plus the keywords x-complexity, x-help, x-secret,
// x-secret-source and x-env. Nested objects with declared properties flatten to
// dotted keys; everything else (an array, a free object, a union of models, a
// recursive property) is one leaf. A value with properties and no type is an object.
//
// # Defaults
//
// The effective document is the stored values over the schema's defaults. A
// property without a value gets its own default, unchanged. A nested object that is
// present, by value or by default, even {}, gets the defaults of its properties, at
// every depth; the object's own default overrides those of its properties, so a key
// that is removed returns to its earlier value. An object that is absent and has no
// default gets those of its properties when that makes it valid: it is declared as an
// object only, and what it requires has a default or is a secret. So a service reads
// them also where Pydantic has a default_factory, or where only a secret makes the
// object. An object that may be null, that lacks a required value, or whose presence
// other keywords decide (oneOf, if, not, dependentRequired) stays absent;
// json_schema_extra={"default": {}} requests it. Defaults inside the elements of arrays,
// free objects and unions are left to the service.
//
// # Secrets
//
// A property is a secret by x-secret, writeOnly or format password (Pydantic's
// SecretStr). A leaf that contains a secret is a secret as a whole. The effective
// document contains no secrets, no message contains the value of one, and `required`
// does not apply to them. Field.Env is the variable that a value may come from, of a
// secret or of any other field; this package never reads one.
//
// # Limits
//
// A schema is untrusted. Compile limits its size, the number of its subschemas and
// fields, the work of checking one value (references that multiply, enumerations),
// and the size of its patterns, which run in linear time because they have no
// lookaround and no back-references. The memory that compiled patterns take is limited
// for each schema, and by Cache.Admit for all. A Cache keeps a bounded number of bytes of
// what is compiled, and compiles the rest again. The work for a whole document is
// limited before it is validated. A $ref points into the same document; nothing is
// loaded.
//
// A *Schema is immutable and safe for concurrent use; so is a *Cache. The leader
// compiles schemas and validates edits, the state machine of every node derives
// items, and the APIs read fields, each on its own goroutine.
package schema
