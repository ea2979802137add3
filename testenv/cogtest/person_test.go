package cogtest

import (
	"testing"

	"github.com/holdfast-config/holdfast/testenv/browser"
)

// signIn opens the page of an agent and signs in with a token.
func signIn(t *testing.T, addr, token string) *browser.Tab {
	t.Helper()
	p := browser.Open(t)
	p.SignIn(addr, token)
	return p
}
