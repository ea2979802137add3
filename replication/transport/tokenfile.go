package transport

import (
	"os"
	"strings"
)

// ReadTokenFile reads the join token in a file.
func ReadTokenFile(path string) (Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Token{}, err
	}
	return ParseToken(strings.TrimSpace(string(data)))
}
