package schema

import (
	"math/big"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var (
	maxInteger = big.NewRat(conf.MaxInteger-1, 1)
	minInteger = big.NewRat(1-conf.MaxInteger, 1)
)

// boundIntegers limits every integer of the compiled schema to those that a 64-bit
// float has exactly. ParseJSON rejects the others when they are spelled with digits
// only; 1e21 is a number to it, which is right where the schema says number. The
// bounds are not part of the fields: they come from the source of the schema.
func boundIntegers(nodes []*jsonschema.Schema) {
	for _, s := range nodes {
		if s.Types == nil {
			continue
		}
		if names := s.Types.ToStrings(); !slices.Contains(names, "integer") || slices.Contains(names, "number") {
			continue
		}
		if s.Maximum == nil || s.Maximum.Cmp(maxInteger) > 0 {
			s.Maximum = maxInteger
		}
		if s.Minimum == nil || s.Minimum.Cmp(minInteger) < 0 {
			s.Minimum = minInteger
		}
	}
}
