package agent_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func (r *running) instances(service string) (out conf.Instances) {
	r.T.Helper()
	code, _, body := r.Call("GET", r.Info().AdminURL+"/api/config/services/"+service+"/instances", "", "X-API-Token", testenv.ReadToken)
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK {
		r.T.Fatalf("%d %s", code, body)
	}
	return out
}

func (r *running) ack(body string, headers ...string) (int, string) {
	r.T.Helper()
	code, _, text := r.Call("POST", r.Info().LocalURL+"/v1/ack/demo", body, headers...)
	return code, text
}

func TestAgentIsAnInstance(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, map[string]string{"CONFIG_SERVICE_NAME": "demo", "CONFIG_INSTANCE": "demo-1", "CONFIG_LABELS": "zone=a"})).ready()
	first := func() conf.Instance {
		all := r.instances("demo")
		if len(all.Instances) != 1 {
			return conf.Instance{}
		}
		return all.Instances[0]
	}
	r.Await("the first report", func() bool { return first().Status == conf.InstanceReceived })
	i := first()
	if i.Instance != "demo-1" || i.Labels["zone"] != "a" || i.Kind != "member" || i.Version != 1 {
		t.Errorf("%+v", i)
	}
	r.Call("GET", r.Info().LocalURL+"/v1/config/demo/level", "")
	r.Await("a read", func() bool { return first().Status == conf.InstanceRead })

	token, err := os.ReadFile(r.Options.LocalTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	trusted := []string{"X-Holdfast-Token", strings.TrimSpace(string(token))}
	body := fmt.Sprintf(`{"version":1,"config_epoch":%q,"status":"rejected","reason":"port in use"}`, i.Epoch)
	if code, text := r.ack(body); code != 401 {
		t.Errorf("without a token: %d %s", code, text)
	}
	if code, text := r.ack(body, trusted...); code != 202 || text != `{"success":true}` {
		t.Errorf("%d %s", code, text)
	}
	r.Await("the refusal", func() bool { return first().Reason == "port in use" })
	if all := r.instances("demo"); all.Summary != "0 of 1 run v1; demo-1 refused: port in use" {
		t.Errorf("%+v", all)
	}
	// A plain version is not taken back.
	if code, _, text := r.Call("GET", r.Info().LocalURL+"/v1/config/demo", ""); code != 200 || !strings.Contains(text, `"version":1`) {
		t.Errorf("%d %s", code, text)
	}
	if code, body := r.set("7"); code != 200 {
		t.Fatal(body)
	}
	r.Await("the next version", func() bool {
		return first().Version == 2 && first().Status == conf.InstanceReceived && first().Reason == ""
	})
	if code, text := r.ack(body, trusted...); code != 409 || !strings.Contains(text, `"current_version":2`) {
		t.Errorf("an old version: %d %s", code, text)
	}
	r.Await("its address", func() bool { return first().Addr != "" })
	if code, _, text := r.Call("GET", r.Info().LocalURL+"/metrics", ""); code != 200 || !strings.Contains(text, `holdfast_instances{service="demo",status="received"} 1`) {
		t.Errorf("metrics: %d", code)
	}
}
