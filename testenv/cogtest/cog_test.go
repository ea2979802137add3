package cogtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always has a text
	return string(b)
}

// TestSettings is what a person does on the settings of one agent, which all parts share.
func TestSettings(t *testing.T) {
	t.Parallel()
	a := testenv.StartProcess(t, "LITESTREAM_S3_ENDPOINT=file://"+t.TempDir(), "LITESTREAM_S3_PATH=prod")
	a.Admin("PUT", "/api/config/profiles/night", `{"services":{"tts-worker":{"volume_percent":20},"camera-service":{"fps":5}}}`).OK(t)
	t.Run("Reader", func(t *testing.T) { reader(t, a) }) // first: it wants a log without refusals
	for name, part := range map[string]func(*testing.T, *testenv.Agent){
		"Tokens": tokens, "Keys": keys, "Backup": backup, "AccessLog": accessLog, "About": about, "Everybody": everybody,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t, a)
		})
	}
}

// tokens makes an API token, which is shown once, uses it and revokes it.
func tokens(t *testing.T, a *testenv.Agent) {
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/cog/tokens")
	p.Click("New token")
	p.Fill("For whom or what", "<b>panel")
	if why := p.Off("Create token"); why == "" {
		t.Error("a token may be named <b>panel")
	}
	p.Fill("For whom or what", "panel")
	p.Choose("Expires", "in 30 days")
	p.Click("Create token")
	p.Shows("The token of “panel” is shown once.", "in 29 days")
	token := browser.Eval[string](p, "document.querySelector('.cmd code').textContent")
	me := struct{ Name, Role string }{}
	testenv.Do("GET", "http://"+a.AdminAddr+"/api/config/me", "", "X-API-Token: "+token).Into(t, &me)
	if me.Name != "panel" || me.Role != "config.read" {
		t.Errorf("the token is that of %+v", me)
	}
	p.Click("I saved it")
	p.Await("the token to go", "!text().includes('shown once')")
	if at := p.Everywhere(token); len(at) > 0 {
		t.Errorf("the token is in %v after it was saved", at)
	}
	p.Click("Revoke panel")
	p.Click("Revoke the token")
	p.Shows("Revoked the token of panel.", "revoked")
	if r := testenv.Do("GET", "http://"+a.AdminAddr+"/api/config/me", "", "X-API-Token: "+token); r.Status != http.StatusUnauthorized {
		t.Errorf("the revoked token is answered %v", r)
	}
}

// keys rotates the signing key, and ends the old one; prepares one and gives it up.
func keys(t *testing.T, a *testenv.Agent) {
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	// phase is where the API says that the rotation of a kind stands: "" for none.
	phase := func(kind string) string {
		var st conf.KeysStatus
		a.Admin("GET", "/api/config/keys", "").Into(t, &st)
		for _, r := range st.Rotations {
			if r.Kind == kind {
				return r.Phase
			}
		}
		return ""
	}
	more := func(kind, item string) {
		t.Helper()
		p.Click("More of " + kind)
		p.Click(item)
	}
	p.Open("/cog/keys")
	p.Click("Rotate signing")
	p.Fill("Reason", "a year is over")
	p.Click("Rotate signing")
	p.Shows("The rotation of signing has begun: ", "Rotation of signing", "Who holds it", "in place of", "old key still taken")
	if why := p.Off("Rotate signing"); why == "" {
		t.Error("a key may be rotated during its rotation")
	}
	if got := phase("signing"); got != conf.PhaseGrace {
		t.Errorf("the rotation of signing is in %q", got)
	}
	more("signing", "End the old key of signing")
	p.Shows("A member that has not heard of the new one since then must join again.")
	p.Click("End the old key of signing")
	p.Shows("The old key of signing has ended.")
	p.Await("the rotation to end", "!text().includes('Rotation of signing')")
	if got := phase("signing"); got != "" {
		t.Errorf("the rotation of signing is in %q after its end", got)
	}
	var log struct{ Results []struct{ Reason string } }
	a.Admin("GET", "/api/config/access?action=write&limit=50", "").Into(t, &log)
	if !slices.ContainsFunc(log.Results, func(r struct{ Reason string }) bool { return strings.Contains(r.Reason, "a year is over") }) {
		t.Errorf("the access log does not tell why: %+v", log.Results)
	}

	p.Click("More of hmac")
	for _, item := range []string{"Abort the rotation of hmac", "End the old key of hmac"} {
		if why := p.Off(item); why == "" {
			t.Errorf("%s: possible without a rotation", item)
		}
	}
	p.Click("Prepare hmac")
	p.Click("Prepare hmac")
	p.Shows("handed out, not used yet", "Rotation of hmac")
	if got := phase("hmac"); got != conf.PhasePrepared {
		t.Errorf("the rotation of hmac is in %q", got)
	}
	more("hmac", "Abort the rotation of hmac")
	p.Confirm() // Ctrl+Enter presses the action of a dialog
	p.Shows("The rotation of hmac was aborted: ")
	p.Await("the rotation to go", "!text().includes('Rotation of hmac')")
	if got := phase("hmac"); got != "" {
		t.Errorf("the rotation of hmac is in %q after it was given up", got)
	}
}

// backup runs a drill, and sees what it proved.
func backup(t *testing.T, a *testenv.Agent) {
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	testenv.Await(t, "the first copy", func() bool {
		st := struct{ Generation string }{}
		return json.Unmarshal(a.Admin("GET", "/api/config/backups/status", "").Body, &st) == nil && st.Generation != ""
	})
	p.Open("/cog/backup")
	p.Click("Run a drill now")
	p.Shows("Restored and compared: equal at index", "Restore points", "written now", "nothing opens without it")
	st := struct{ Drill *struct{ Err *string } }{}
	a.Admin("GET", "/api/config/backups/status", "").Into(t, &st)
	if st.Drill == nil || st.Drill.Err != nil {
		t.Errorf("the drill is %+v", st.Drill)
	}
	var points struct{ Backups []struct{ ID string } }
	a.Admin("GET", "/api/config/backups", "").Into(t, &points)
	if len(points.Backups) == 0 {
		t.Fatal("the API has no restore points")
	}
	for _, b := range points.Backups {
		p.Await("the restore point "+b.ID, "[...document.querySelectorAll('tbody code')].some((n) => n.title === a[0])", b.ID)
	}
	p.Run("navigator.clipboard.writeText = async (text) => { window.copied = text; }") // no window asks a test for leave
	p.Click("Copy the command")
	p.Await("the command", "window.copied === 'holdfast backup restore -o old.db --generation ' + a[0]", points.Backups[0].ID)
	p.Open("/cog/health")
	p.Shows("Backup", "verified ", "This agent serves and takes changes.", "served from the replica in memory", "verified; reads survive")
}

// accessLog finds a refusal by the filters.
func accessLog(t *testing.T, a *testenv.Agent) {
	testenv.Do("PATCH", "http://"+a.AdminAddr+"/api/config/services/tts-worker", `{"volume_percent":1}`, "X-API-Token: "+testenv.ReadToken)
	a.Admin("PATCH", "/api/config/services/stt-worker?reason=%3Cb%3Eloud", `{"vad_threshold":0.6}`).OK(t)
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/cog/access")
	p.Choose("Action", "write")
	p.Await("writes only", "[...document.querySelectorAll('tbody tr')].length > 0 && [...document.querySelectorAll('tbody tr')].every((r) => r.dataset.row === 'write')")
	p.Choose("Service", "stt-worker")
	p.Fill("Filter these: who, key, reason", "<b>loud")
	p.Await("one row", "document.querySelectorAll('tbody tr').length === 1 && text().includes('<b>loud')")
	p.Fill("Filter these: who, key, reason", "")
	p.Choose("Service", "tts-worker")
	p.Choose("Action", "unauthorized")
	p.Await("the refusal", "[...document.querySelectorAll('tbody tr')].some((r) => words(r).includes('refused'))")

	// Who can be chosen is who was seen, and older rows are a page away.
	for range 60 {
		testenv.Do("GET", "http://"+a.AdminAddr+"/api/config/services/router", "", "X-API-Token: "+testenv.ReadToken).OK(t)
	}
	var me struct{ Name string }
	testenv.Do("GET", "http://"+a.AdminAddr+"/api/config/me", "", "X-API-Token: "+testenv.ReadToken).Into(t, &me)
	testenv.Await(t, "the reads in the log", func() bool {
		var log struct{ Total int }
		a.Admin("GET", "/api/config/access?service=router&user="+me.Name, "").Into(t, &log)
		return log.Total >= 60
	})
	p.Choose("Action", "Every action")
	p.Choose("Service", "router")
	p.Choose("Who", me.Name)
	p.Await("the reads of one person", "document.querySelectorAll('tbody tr').length === 50 && text().includes('1 to 50 of ')")
	if why := p.Off("Newer"); why == "" {
		t.Error("there is something newer than the newest")
	}
	p.Click("Older")
	p.Await("the older ones", "text().includes('51 to ') && document.querySelectorAll('tbody tr').length >= 10")
	p.Choose("Since", "Last 7 days")
	p.Await("the first page again", "text().includes('1 to 50 of ')")
}

// about says who answers and who is signed in, and has switches for the looks and the keys.
func about(t *testing.T, a *testenv.Agent) {
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	p.Open("/cog/about")
	var c struct {
		ID string `json:"cluster_id"`
	}
	a.Admin("GET", "/api/config/cluster", "").Into(t, &c)
	p.Shows("config.write", "OpenAPI", "Holdfast ", c.ID, "http://"+a.AdminAddr)
	p.Click("Dark")
	p.Await("dark", "document.documentElement.dataset.theme === 'dark'")
	p.Click("Single-key shortcuts")
	p.Press("?")
	p.Await("no list of keys", "!document.querySelector('dialog[open]')")
	p.Click("Single-key shortcuts")
	p.Run("document.activeElement.blur()")
	p.Press("?")
	p.Await("the list of keys", "document.querySelector('dialog[open]')")
}

// reader opens every view with a token that may only read: what it may not do is
// there, disabled, with the reason.
func reader(t *testing.T, a *testenv.Agent) {
	p := signIn(t, a.AdminAddr, testenv.ReadToken)
	for view, buttons := range map[string][]string{
		"#/profiles": {"Save current values", "Activate night"}, "#/services/llm-worker/secrets": {"Set proxy_password", "Reveal proxy_password"},
		"#/services/stt-worker/schema": {"Choose a file"}, "#/cog/cluster": {"Add an agent", "Transfer leadership"}, "#/cog/backup": {"Run a drill now"},
		"#/cog/keys": {"Rotate master"}, "#/cog/tokens": {"New token"},
	} {
		p.Open(strings.TrimPrefix(view, "#"))
		for _, b := range buttons {
			if why := p.Off(b); !strings.Contains(why, "config.write") {
				t.Errorf("%s, %s: disabled with %q", view, b, why)
			}
			p.Click(b)
			p.Await("the reason to be said", "document.querySelector('[role=status]').textContent.includes('config.write')")
			if browser.Eval[bool](p, "document.querySelector('dialog[open]') !== null") {
				t.Errorf("%s, %s: a reader gets a dialog", view, b)
			}
		}
	}
	p.Open("/cog/access")
	p.Shows("You cannot read the access log. Your token has the role config.read.")
	refused := struct{ Total int }{}
	a.Admin("GET", "/api/config/access?action=unauthorized", "").Into(t, &refused)
	if refused.Total != 0 {
		t.Errorf("the page of a reader was refused %d times: it asks what it may not", refused.Total)
	}
}

// everybody opens each view, wide and at 320 px, light and dark: each control
// has a name, nothing scrolls sideways, and nothing complains.
func everybody(t *testing.T, a *testenv.Agent) {
	a.Admin("PUT", "/api/config/services/llm-worker/secrets/proxy_password", `{"value":"x"}`).OK(t)
	p := signIn(t, a.AdminAddr, testenv.WriteToken)
	dialogs := map[string]string{"#/profiles": "Save current values", "#/services/llm-worker/secrets": "Reveal proxy_password", "#/cog/cluster": "Add an agent", "#/cog/keys": "Rotate hmac", "#/cog/tokens": "New token"}
	for _, view := range []string{
		"#/profiles", "#/services/llm-worker/secrets", "#/services/stt-worker/schema", "#/cog/cluster", "#/cog/health", "#/cog/backup", "#/cog/keys",
		"#/cog/tokens", "#/cog/access", "#/cog/about",
	} {
		p.Open(strings.TrimPrefix(view, "#"))
		for _, width := range []int64{1280, 640, 320} {
			p.Size(width, 800)
			check := func(what string) {
				t.Helper()
				p.ForEverybody(fmt.Sprintf("%s%s at %d px", view, what, width))
			}
			check("")
			if name := dialogs[view]; name != "" {
				p.Click(name)
				p.Await("a dialog", "document.querySelector('dialog[open]')")
				check(", " + name)
				p.Click("Cancel")
				p.Await("the dialog to close", "!document.querySelector('dialog[open]')")
			}
		}
	}
}
