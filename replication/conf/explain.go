package conf

import "encoding/json"

// Layer is one place that has a value for a field.
type Layer struct {
	Source Source          `json:"source"`
	Value  json.RawMessage `json:"value"`         // of a secret Masked, but for a local caller that proved itself
	Env    string          `json:"env,omitempty"` // the variable of the environment

	// Of what is stored: the change that made it so, as far as the history tells.
	Version   uint64 `json:"version,omitempty"`
	UpdatedAt string `json:"updated_at,omitempty"`
	UpdatedBy string `json:"updated_by,omitempty"`
	KeyID     string `json:"key_id,omitempty"` // of a secret: the master key that it is sealed under
}

// Explained tells where the value of one field comes from. The environment comes
// before what is stored, and that before the default of the schema.
type Explained struct {
	Key     string  `json:"key"`
	Type    Type    `json:"type"`
	Secret  bool    `json:"is_secret"`
	Winner  *Layer  `json:"winner"`  // null: nothing has a value for it
	Shadows []Layer `json:"shadows"` // what Winner hides, strongest first
}

// Explanation is where the values of a service come from, in ascending order of
// the keys.
type Explanation struct {
	Service string      `json:"service"`
	Version uint64      `json:"version"`
	Epoch   string      `json:"config_epoch"`
	Fields  []Explained `json:"fields"`
}
