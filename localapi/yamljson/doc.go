// Package yamljson spells JSON as YAML and reads it back as the same JSON: number
// by number and string by string. Nothing is guessed when YAML is read: yes is a
// string, and 0x1, anchors and merges are rejected with their line.
package yamljson
