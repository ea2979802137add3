package schema_test

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-config/holdfast/replication/schema"
)

const greeter = `{
  "type": "object", "additionalProperties": false,
  "properties": {
    "greeting": {"type": "string", "default": "hello", "description": "What to say"},
    "times": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1, "x-complexity": "advanced"},
    "token": {"type": "string", "x-secret": true}
  }
}`

// The effective document has the defaults of the schema, then the stored values.
// Errors come all at once, by key.
func ExampleSchema_Effective() {
	s, err := schema.Compile("greeter", []byte(greeter))
	if err != nil {
		fmt.Println(err)
		return
	}
	config, invalid := s.Effective(map[string]any{"greeting": "good morning"})
	fmt.Println(config, invalid)

	_, invalid = s.Effective(map[string]any{"greeting": true, "times": json.Number("11")})
	for _, e := range invalid {
		fmt.Printf("%s: %s\n", e.Key, e.Message)
	}
	// Output:
	// map[greeting:good morning times:1] []
	// greeting: must be a string, got a boolean
	// times: must be at most 10 (allowed 1 to 10), got 11
}

// The metadata of the fields is a projection of the schema.
func ExampleSchema_Fields() {
	s, err := schema.Compile("greeter", []byte(greeter))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range s.Fields() {
		fmt.Println(f.Key, f.Type, f.Complexity, f.IsSecret)
	}
	// Output:
	// greeting string simple false
	// times integer advanced false
	// token secret simple true
}

// The text that a person types becomes a value of the type that the schema declares.
func ExampleParseText() {
	s, err := schema.Compile("greeter", []byte(greeter))
	if err != nil {
		fmt.Println(err)
		return
	}
	f, _ := s.Field("times")
	value, err := schema.ParseText(f, "3")
	fmt.Printf("%v %T %v\n", value, value, err)
	// Output: 3 json.Number <nil>
}
