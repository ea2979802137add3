package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// inProcess runs one command line against a server and returns what it did.
func inProcess(t *testing.T, server http.HandlerFunc, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	srv := httptest.NewServer(server)
	defer srv.Close()
	var out, errs bytes.Buffer
	a := &cli.App{In: strings.NewReader(""), Out: &out, Err: &errs, LookupEnv: func(string) (string, bool) { return "", false }}
	code = a.Run(t.Context(), newRoot(a), append(args, "--local-url", srv.URL, "--admin-url", srv.URL, "--data-dir", t.TempDir(), "--token", "hidden"))
	if strings.Contains(out.String()+errs.String(), "hidden") {
		t.Errorf("the token is printed:\n%s%s", &out, &errs)
	}
	return code, out.String(), errs.String()
}

func document(age, source string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if age != "" {
			w.Header().Set("X-Config-Age", age)
		}
		w.Header().Set("X-Config-Source", source)
		_, _ = w.Write([]byte(`{"service":"s","config":{"a":1},"metadata":{"version":3}}`))
	}
}

func TestGetMaxAge(t *testing.T) {
	for _, tc := range []struct {
		age, most string
		code      int
		says      string
	}{
		{"45", "30s", 8, "45s ago"},
		{"45", "1m", 0, ""},
		{"", "1m", 8, "does not say"},
		{"", "0", 0, ""},
	} {
		code, out, errs := inProcess(t, document(tc.age, "replica"), "get", "s", "a", "--max-age", tc.most)
		if code != tc.code || !strings.Contains(errs, tc.says) || (code == 0) != (out == "1\n") {
			t.Errorf("age %q, --max-age %s: exit %d, stdout %q, stderr %q", tc.age, tc.most, code, out, errs)
		}
	}
}

func TestGetTellsTheSource(t *testing.T) {
	for source, says := range map[string]string{"replica": "", "lkg": "last-known-good file", "default": "defaults of the schema"} {
		_, _, errs := inProcess(t, document("1", source), "get", "s")
		if (errs == "") != (says == "") || !strings.Contains(errs, says) {
			t.Errorf("%s: %q", source, errs)
		}
	}
}

// The exit code follows the table for every error code of a response.
func TestExitCodeOfAnswers(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, tc := range []struct {
		status int
		body   string
		want   int
	}{
		{503, `{"success":false,"error":"x","code":"no_quorum","hint":"h"}`, 6},
		{503, `{"success":false,"error":"x","code":"read_only"}`, 6},
		{504, `{"success":false,"error":"x","code":"outcome_unknown"}`, 1},
		{507, `{"success":false,"error":"x","code":"storage_full"}`, 1},
		{429, `{"success":false,"error":"x","code":"rate_limited"}`, 1},
		{400, `{"success":false,"error":"x","code":"of_the_future"}`, 1},
		{200, `not json`, 1},
		{404, `<html>`, 1},
	} {
		code, _, errs := inProcess(t, answer(tc.status, tc.body), "list")
		if code != tc.want || !strings.HasPrefix(errs, "holdfast: ") {
			t.Errorf("%d %s: exit %d, want %d; %q", tc.status, tc.body, code, tc.want, errs)
		}
	}
}

// Text of other people does not reach the terminal as control characters.
func TestTablesAreClean(t *testing.T) {
	_, out, _ := inProcess(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"results":[{"service":"s","key":"k","value_json":"\"\u001b[2J\"","description":"a\nb\tc\u009b"}],"total":1}`))
	}, "search", "x")
	if strings.ContainsAny(out, "\x1b\u009b") || strings.Count(out, "\n") != 2 {
		t.Errorf("%q", out)
	}
}
