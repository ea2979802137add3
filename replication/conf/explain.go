package conf

import "encoding/json"

// Layer is one source of a value for a field.
type Layer struct {
	Source Source          `json:"source"`
	Value  json.RawMessage `json:"value"`         // of a secret Masked, except for an authenticated local caller
	Env    string          `json:"env,omitempty"` // the variable of the environment

	// Of a stored value: the change that wrote it, if the history has it.
	Version   uint64 `json:"version,omitempty"`
	UpdatedAt string `json:"updated_at,omitempty"`
	UpdatedBy string `json:"updated_by,omitempty"`
	KeyID     string `json:"key_id,omitempty"` // of a secret: the master key that it is sealed under
}

// Explained lists the sources of the value of one field. The environment overrides the
// stored value, which overrides the default of the schema.
type Explained struct {
	Key     string  `json:"key"`
	Type    Type    `json:"type"`
	Secret  bool    `json:"is_secret"`
	Winner  *Layer  `json:"winner"`  // null without a value
	Shadows []Layer `json:"shadows"` // the overridden sources, strongest first
}

// Explanation lists the sources of the values of a service, sorted by key.
type Explanation struct {
	Service string      `json:"service"`
	Version uint64      `json:"version"`
	Epoch   string      `json:"config_epoch"`
	Fields  []Explained `json:"fields"`
}
