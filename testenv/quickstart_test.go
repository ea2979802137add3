package testenv

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestQuickstart runs the curl lines of the quickstart as they are written there,
// on port 8081 where that is free, and looks at each answer.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	Need(t, "sh", "curl")
	text, err := os.ReadFile(filepath.Join("testdata", "quickstart.sh"))
	if err != nil {
		t.Fatal(err)
	}
	script := string(text)
	a := NewAgent(t)
	free := a.AdminAddr
	if PortFree(8081) {
		a.Set("CONFIG_MANAGER_PORT", "8081")
		a.AdminAddr = "127.0.0.1:8081"
		a.Start()
		Await(t, "the agent to answer, or to end for want of the port", func() bool { // which somebody may take meanwhile
			return !a.Running() || a.Local("/readyz").Status == http.StatusOK
		})
	}
	if !a.Running() {
		_, port, _ := strings.Cut(free, ":")
		a.Set("CONFIG_MANAGER_PORT", port)
		a.AdminAddr = free
		script = strings.ReplaceAll(script, "localhost:8081", "localhost:"+port)
		t.Log("port 8081 is taken: the lines run with port " + port)
		a.Start()
	}
	a.AwaitNormal()

	// A line break after each answer, so that they can be told apart.
	p := Spawn(t, t.TempDir(), []string{"no_proxy=*"}, "sh", "-e", "-c",
		"curl() { command curl -sS --fail-with-body \"$@\"; echo; }\n"+script)
	if code := p.Wait(t, "the lines of the quickstart"); code != 0 {
		t.Fatalf("a line of the quickstart failed with code %d:\n%s", code, p.Output())
	}
	answers := strings.FieldsFunc(p.Output(), func(r rune) bool { return r == '\n' })
	if len(answers) != 5 {
		t.Fatalf("want 5 answers, got %d:\n%s", len(answers), p.Output())
	}
	decode := func(i int, dst any) {
		t.Helper()
		if err := json.Unmarshal([]byte(answers[i]), dst); err != nil {
			t.Fatalf("answer %d is %s: %v", i+1, answers[i], err)
		}
	}

	var health map[string]any
	decode(0, &health)
	for member, want := range map[string]any{
		"ok": true, "database_status": "healthy", "operational_mode": "normal",
		"lkg_cache_valid": true, "litestream_status": "disabled",
	} {
		if health[member] != want {
			t.Errorf("health: %s is %v, want %v", member, health[member], want)
		}
	}
	var list struct {
		Services []conf.ServiceInfo `json:"services"`
	}
	decode(1, &list)
	if len(list.Services) < 9 {
		t.Errorf("only %d services: %s", len(list.Services), answers[1])
	}
	var one conf.ReadResponse
	decode(2, &one)
	if one.Service != "stt-worker" || one.Metadata.Version != 1 || !strings.Contains(string(one.Config), `"whisper_model":"base.en"`) {
		t.Errorf("service: %s", answers[2])
	}
	var update map[string]any
	decode(3, &update)
	if update["success"] != true || update["new_version"] != 2.0 {
		t.Errorf("update: %s", answers[3])
	}
	var found conf.SearchResponse
	decode(4, &found)
	hit := false
	for _, i := range found.Results {
		hit = hit || i.Service == "stt-worker" && i.Key == "whisper_model" && i.ValueJSON == `"small.en"`
	}
	if !hit || found.Total < 1 {
		t.Errorf("search: %s", answers[4])
	}

	d := a.Document("stt-worker")
	if d.Values["whisper_model"] != "small.en" || d.Values["vad_threshold"] != json.Number("0.6") || d.Metadata.Version != 2 {
		t.Errorf("after the update the service reads version %s of %s", strconv.FormatUint(d.Metadata.Version, 10), d.Config)
	}
}

// TestForeignCallers refuses what a web page or another program on the network
// would send through a browser or a proxy, and keeps answering the service itself.
func TestForeignCallers(t *testing.T) {
	t.Parallel()
	a := StartProcess(t)
	for _, header := range []string{
		"Host: evil.example", "Host: evil.example:2770", "Host: 169.254.169.254", "Host: localhost.evil.example",
		"X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=10.0.0.1",
	} {
		for _, path := range []string{"/v1/config/stt-worker", "/v1/config/stt-worker/whisper_model", "/v1/env/stt-worker", "/v1/keys"} {
			r := a.Local(path, header)
			if r.Status/100 != 4 || strings.Contains(string(r.Body), "base.en") {
				t.Errorf("%s with %s: %s", path, header, r)
			}
		}
	}
	_, port, _ := strings.Cut(a.LocalAddr, ":")
	for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port, "localhost"} {
		a.Local("/v1/config/stt-worker", "Host: "+host).OK(t)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if r := Do(method, "http://"+a.LocalAddr+"/v1/config/stt-worker", "{}"); r.Status/100 != 4 {
			t.Errorf("%s on the local API: %s", method, r)
		}
	}

	// Nothing but health and the description answers without a token.
	for _, path := range []string{"/api/config/services", "/api/config/history", "/api/config/me", "/api/config/access"} {
		Do("GET", "http://"+a.AdminAddr+path, "").Want(t, 401, conf.CodeUnauthenticated)
		a.Admin("GET", path, "", "X-API-Token: wrong").Want(t, 401, conf.CodeUnauthenticated)
	}
	a.Admin("PATCH", "/api/config/services/stt-worker", `{"channels":2}`, "X-API-Token: "+ReadToken).Want(t, 403, conf.CodeDenied)
	Await(t, "the refusals to stand in the access log", func() bool {
		var page conf.AccessPage
		a.Admin("GET", "/api/config/access?action=unauthorized", "").Into(t, &page)
		return len(page.Results) >= 9
	})
}

// TestBadInput sends what no honest client sends. Each is refused with a reason,
// nothing changes, and the agent stays up.
func TestBadInput(t *testing.T) {
	t.Parallel()
	a := StartProcess(t)
	before := a.State()
	put := func(config string) string {
		return `{"service":"stt-worker","config":` + config + `,"version":1}`
	}
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for name, body := range map[string]string{
		"empty":            "",
		"not json":         "whisper",
		"torn":             `{"service":"stt-worker","config":{`,
		"array":            `[]`,
		"two values":       put(`{}`) + `{}`,
		"duplicate member": `{"service":"stt-worker","service":"stt-worker","config":{},"version":1}`,
		"duplicate key":    put(`{"channels":1,"channels":2}`),
		"unknown member":   `{"service":"stt-worker","config":{},"version":1,"extra":1}`,
		"other case":       `{"Service":"stt-worker","config":{},"version":1}`,
		"other service":    `{"service":"tts-worker","config":{},"version":1}`,
		"no version":       `{"service":"stt-worker","config":{}}`,
		"negative version": `{"service":"stt-worker","config":{},"version":-1}`,
		"unknown key":      put(`{"no_such_key":1}`),
		"wrong type":       put(`{"channels":"two"}`),
		"out of range":     put(`{"channels":3}`),
		"not in the enum":  put(`{"stt_backend":"telepathy"}`),
		"null":             put(`null`),
		"huge integer":     put(`{"sample_rate":9007199254740993}`),
		"huge number":      put(`{"vad_threshold":1e999}`),
		"not UTF-8":        put("{\"whisper_model\":\"\xff\xfe\"}"),
		"lone surrogate":   put(`{"whisper_model":"\ud800"}`),
		"too deep":         put(deep),
		"too large":        put(`{"whisper_model":"` + strings.Repeat("x", 2<<20) + `"}`),
	} {
		var r Reply
		poll(Patience, func() bool { // an agent that reads no further may break the connection before its answer is read
			r = a.Admin("PUT", "/api/config/services/stt-worker", body)
			return r.Err == nil || !a.Running()
		})
		f := r.Failure()
		if r.Err != nil || r.Status/100 != 4 || f.Success || f.Error == "" || f.Code == "" {
			t.Errorf("%s: %s", name, r)
		}
		if strings.HasPrefix(name, "out of") && !strings.Contains(string(r.Body), "channels") {
			t.Errorf("%s: the answer does not name the key: %s", name, r)
		}
	}
	for _, name := range []string{"STT", "1st", "a_b", "..", "a%2Fb", strings.Repeat("a", 200), "%00"} {
		if r := a.Admin("PUT", "/api/config/services/"+name, `{}`); r.Status/100 != 4 {
			t.Errorf("service name %q: %s", name, r)
		}
	}
	a.Admin("PUT", "/api/config/services/stt-worker", `{"service":"stt-worker","config":{},"version":7}`).Want(t, 409, conf.CodeConflict)
	before.Require(t, a, "replica", false)
	if !a.Running() {
		t.Error("the agent ended")
	}
}
