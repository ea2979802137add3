package servicetest

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

func TestMain(m *testing.M) { os.Exit(browser.End(testenv.Main(m))) }

// stored are the stored values of a service, nil when there is none.
func stored(t *testing.T, a *testenv.API, service string) map[string]any {
	t.Helper()
	var out struct {
		Config map[string]any `json:"config"`
	}
	r := a.Admin("GET", "/api/config/services/"+service+"?values=stored", "")
	if r.Status == 404 {
		return nil
	}
	if err := json.Unmarshal(r.OK(t).Body, &out); err != nil {
		t.Fatal(err)
	}
	return out.Config
}

// reason is that of the newest change of a service.
func reason(t *testing.T, a *testenv.API, service string) string {
	t.Helper()
	var out struct {
		Results []struct {
			Reason string `json:"change_reason"`
		} `json:"results"`
	}
	if err := json.Unmarshal(a.Admin("GET", "/api/config/history?limit=1&service="+service, "").OK(t).Body, &out); err != nil || len(out.Results) != 1 {
		t.Fatalf("the history of %s: %v", service, err)
	}
	return out.Results[0].Reason
}
