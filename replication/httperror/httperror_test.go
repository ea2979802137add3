package httperror

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, code := range conf.Codes() {
		status, ok := statuses[code]
		if !ok || status < 400 || http.StatusText(status) == "" || (status == 500) != (code == conf.CodeInternal) {
			t.Errorf("%s: status %d", code, status)
		}
	}
	if len(statuses) != len(conf.Codes()) {
		t.Errorf("%d codes have a status, of %d", len(statuses), len(conf.Codes()))
	}
	if got := Status("of a later build"); got != 500 {
		t.Errorf("an unknown code: %d", got)
	}
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	for name, want := range map[string]*conf.Error{
		"invalid":  {Code: conf.CodeInvalid, Message: "a <b> is not valid", Hint: "correct it", Details: []conf.FieldError{{Key: "a", Message: "must be 1"}}},
		"conflict": {Code: conf.CodeConflict, Message: "changed", Current: 7},
		"internal": {Code: conf.CodeInternal, Message: "no such table"},
	} {
		w := httptest.NewRecorder()
		New(want).Write(w)
		if w.Code != Status(want.Code) || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		if strings.Contains(w.Body.String(), `\u003c`) {
			t.Errorf("%s: escaped for HTML: %s", name, w.Body)
		}
		if diff := cmp.Diff(error(want), Read(w.Code, w.Body.Bytes())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPublicHidesCauses(t *testing.T) {
	cause := errors.New("/var/lib/holdfast: disk I/O error")
	for _, tc := range []struct {
		err  error
		want Body
	}{
		{conf.Errorf(conf.CodeCorrupt, "it is damaged: %w", cause).WithHint("rebuild"), Body{Error: "it is damaged", Code: conf.CodeCorrupt, Hint: "rebuild"}},
		{conf.Errorf(conf.CodeInternal, "write: %w", cause), Body{Error: "internal error", Code: conf.CodeInternal, Hint: "see the log"}},
		{cause, Body{Error: "internal error", Code: conf.CodeInternal, Hint: "see the log"}},
	} {
		if diff := cmp.Diff(tc.want, Public(tc.err, "see the log")); diff != "" {
			t.Errorf("%v: %s", tc.err, diff)
		}
	}
	if got := New(conf.Errorf(conf.CodeCorrupt, "it is damaged: %w", cause)); got.Error != "it is damaged: "+cause.Error() {
		t.Errorf("New: %q", got.Error)
	}
}

func TestReadOtherBodies(t *testing.T) {
	for _, tc := range []struct {
		status  int
		body    string
		text    string
		noRoute bool
	}{
		{404, "404 page not found\n", "404 Not Found", true},
		{404, `{"success":false,"error":"no such key","code":"not_found"}`, "no such key", false},
		{502, "<html>Bad Gateway", "502 Bad Gateway", false},
		{500, `{"detail":"x"}`, "500 Internal Server Error", false},
		{500, `{"error":"x","code":"of_later"}`, "x (code of_later)", false},
	} {
		err := Read(tc.status, []byte(tc.body))
		if err.Error() != tc.text || IsNoRoute(err) != tc.noRoute {
			t.Errorf("%d %s: %v, no route: %v", tc.status, tc.body, err, IsNoRoute(err))
		}
	}
	if code := conf.CodeOf(Read(500, []byte(`{"error":"x","code":"of_later"}`))); code != conf.CodeInternal {
		t.Errorf("an unknown code: %s", code)
	}
}
