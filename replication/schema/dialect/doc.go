// Package dialect reads a schema as other tools write it, and turns it into what package
// schema compiles.
//
// Canonical is for a schema that is about to be stored: it parses the text with wider
// limits than a document has, and writes the bounds of 64-bit integers as those that
// JSON keeps. Upgrade is for one that is about to be compiled: it reads draft-04 and
// draft-06 as draft-07, and makes every $ref that leads through an $id to the same
// document a local one; a value with properties is an object. Both keep the meaning: a document is valid before and after, or
// neither. What is stored is never changed by Upgrade.
//
// The tables of keywords that contain schemas are here too. All functions are safe for
// concurrent use; Upgrade changes the document of its caller.
package dialect
