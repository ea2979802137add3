package servicetest

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestFirstService is the page of an agent that has nothing yet, and that a network can reach: it says
// that before anybody signs in, names itself only afterwards, and takes the first service.
func TestFirstService(t *testing.T) {
	t.Parallel()
	a := &testenv.StartProcess(t, "CONFIG_SCHEMA_DIR="+t.TempDir(), "CONFIG_MANAGER_HOST=0.0.0.0").API
	p := person{browser.Open(t), a}
	p.Visit("http://" + a.AdminAddr + "/")
	p.Shows("This page came over plain HTTP", "the agent answers")
	if at := p.Everywhere("node-"); at != nil {
		t.Errorf("the node id is in %v before anybody signed in", at)
	}
	for _, tc := range []struct {
		token string
		test  func()
	}{
		{testenv.ReadToken, func() {
			p.Shows("You can check a schema, not add it.")
			p.AwaitOff("Add as v1", "config.read")
			p.ForEverybody("the first service, for a reader")
		}},
		{testenv.WriteToken, func() {
			p.Shot("first-service")
			p.Fill("Name of the service", "first")
			p.Click("What a schema looks like")
			p.Shows("1 field: volume_percent", "checked")
			p.Confirm()
			p.Await("the service", "location.hash === '#/services/first' && document.getElementById('f-volume_percent')")
			if got := a.Document("first"); got.Metadata.Version != 1 {
				t.Errorf("the service is v%d", got.Metadata.Version)
			}
		}},
	} {
		p.Fill("API token", tc.token)
		p.Press(kb.Enter)
		p.Shows("Add the first service", "leads")
		tc.test()
		p.Run("await fetch('/api/session', { method: 'DELETE' })")
		p.reload()
	}
	p.Shows("Sign in")
}
