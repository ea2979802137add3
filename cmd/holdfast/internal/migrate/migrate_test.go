package migrate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/ops"
)

// agent answers as one whose service app is at version 4, without a schema, and which
// somebody else changes before the write comes.
type agent struct {
	writes []map[string]any
	code   int
	answer string
}

func (f *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/api/config/")
	body, _ := io.ReadAll(r.Body)
	say := func(code int, text string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}
	switch {
	case r.Method == http.MethodGet && path == "services/app":
		say(200, `{"config": {"port": 1}, "metadata": {"version": 4}}`)
	case r.Method == http.MethodPost && path == "services/app/validate":
		say(200, `{"valid": true, "config": {"port": 8080}, "new_version": 5}`)
	case r.Method == http.MethodGet:
		say(404, `{"success": false, "code": "not_found", "error": "there is none"}`)
	default:
		var in map[string]any
		_ = json.Unmarshal(body, &in)
		in["path"] = r.Method + " " + path
		f.writes = append(f.writes, in)
		say(f.code, f.answer)
	}
}

func importing(t *testing.T, f *agent, args ...string) (code int, out string) {
	t.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "app.env")
	if err := os.WriteFile(file, []byte("PORT=8080\nTOKEN=hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var both bytes.Buffer
	env := map[string]string{"CONFIG_API_TOKEN": "t", "CONFIG_DATA_DIR": dir}
	a := &cli.App{In: strings.NewReader(""), Out: &both, Err: &both, LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	root := cli.Group(&cobra.Command{Use: "holdfast", SilenceErrors: true, SilenceUsage: true}, ops.Import(a))
	a.AddTo(root)
	args = append([]string{"import", "--admin-url", server.URL, "--from", "env", file, "--service", "app", "--infer-schema", "--secrets-from-file"}, args...)
	code = a.Run(context.Background(), root, args)
	if strings.Contains(both.String(), "hunter2") {
		t.Errorf("a secret is printed:\n%s", both.String())
	}
	return code, both.String()
}

// TestOneChange: the schema, the values and the secrets go to the agent in one request, which
// names the version that was shown. A dry run sends none.
func TestOneChange(t *testing.T) {
	f := &agent{code: 200, answer: `{"new_version": 5}`}
	if code, out := importing(t, f, "--dry-run"); code != 0 || len(f.writes) != 0 {
		t.Errorf("a dry run: exit code %d, %d changes:\n%s", code, len(f.writes), out)
	}
	code, out := importing(t, f, "--yes")
	if code != 0 || len(f.writes) != 1 {
		t.Fatalf("exit code %d, %d changes:\n%s", code, len(f.writes), out)
	}
	w := f.writes[0]
	config, _ := w["config"].(map[string]any)
	schema, _ := w["schema"].(map[string]any)
	if w["path"] != "PUT services/app" || w["version"] != 4.0 || config["port"] != 8080.0 || config["token"] != "hunter2" || schema["properties"] == nil {
		t.Errorf("the change is %v", w)
	}
	if !slices.Equal(strings.Split(out, "\n")[:4], []string{"--- app version 4", "+++ app.env", "- port = 1", "+ port = 8080"}) {
		t.Errorf("the difference is\n%s", out)
	}
}

// TestOtherAnswers: somebody who wrote first, and an error that quotes what was sent.
func TestOtherAnswers(t *testing.T) {
	for want, f := range map[int]*agent{
		cli.ExitConflict: {code: 409, answer: `{"success": false, "code": "version_conflict", "error": "app is at version 5", "current_version": 5}`},
		cli.ExitInvalid: {code: 422, answer: `{"success": false, "code": "invalid", "error": "token must not be hunter2",
			"details": [{"key": "token", "message": "must not be hunter2"}, {"key": "port", "message": "must be at most 5, got 8080"}]}`},
	} {
		code, out := importing(t, f, "--yes")
		if code != want {
			t.Errorf("exit code %d, want %d:\n%s", code, want, out)
		}
		if want == cli.ExitInvalid && (!strings.Contains(out, "port: must be at most 5") || !strings.Contains(out, "token: is not accepted")) {
			t.Errorf("the details are not told:\n%s", out)
		}
	}
}
