package clients

import (
	_ "embed"
	"maps"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
)

//go:embed python/holdfast.py
var python string

//go:embed node/holdfast.mjs
var node string

// Languages lists the languages that have a client, sorted.
func Languages() []string { return slices.Sorted(maps.Keys(files())) }

// File returns the source of the client for a language. The error is a usage error.
func File(language string) (string, error) {
	if source, ok := files()[language]; ok {
		return source, nil
	}
	return "", conf.Errorf(conf.CodeUsage, "there is no client for %q", language).WithHint("there is one for python and one for node; other languages read the local API: docs/http.md")
}

func files() map[string]string { return map[string]string{"python": python, "node": node} }
