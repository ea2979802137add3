package cogtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestPairs puts the states of the page beside those of its design, for a person to look at: light,
// dark, and 320 px wide. `make pairs DESIGN=... PAIRS=...` names both directories.
func TestPairs(t *testing.T) {
	design, dir := os.Getenv("HOLDFAST_DESIGN"), os.Getenv("HOLDFAST_PAIRS")
	if design == "" || dir == "" {
		t.Skip("HOLDFAST_DESIGN and HOLDFAST_PAIRS name the design and a directory for the pairs: see make pairs")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := httptest.NewServer(http.FileServer(http.Dir(design)))
	t.Cleanup(files.Close)
	s := &pairs{T: t, dir: dir, files: files.URL, design: browser.Open(t)}
	s.everyday()
	s.apart()
}

// pairs takes the pictures of both.
type pairs struct {
	*testing.T
	dir, files string
	design     *browser.Tab
}

// take writes the pairs of one state: the page p as it is now, and the page of the design.
func (s *pairs) take(p *browser.Tab, name string) {
	s.Helper()
	for _, as := range []struct {
		name, scheme  string
		width, height int64
	}{{"", "light", 1280, 900}, {"-dark", "dark", 1280, 900}, {"-320", "light", 320, 900}} {
		var both [2]image.Image
		s.design.Size(as.width, as.height)
		s.design.Visit(s.files + "/" + name + ".html?theme=" + as.scheme)
		p.Size(as.width, as.height)
		p.Scheme(as.scheme)
		p.Run("window.scrollTo(0, 0)")
		for i, tab := range []*browser.Tab{s.design, p} {
			pic, err := png.Decode(bytes.NewReader(tab.Picture()))
			if err != nil {
				s.Fatal(err)
			}
			both[i] = pic
		}
		const gap = 12
		w := both[0].Bounds().Dx()
		out := image.NewRGBA(image.Rect(0, 0, 2*w+gap, both[0].Bounds().Dy()))
		draw.Draw(out, out.Bounds(), image.NewUniform(color.RGBA{200, 0, 120, 255}), image.Point{}, draw.Src)
		for i, pic := range both {
			draw.Draw(out, pic.Bounds().Add(image.Pt(i*(w+gap), 0)), pic, image.Point{}, draw.Src)
		}
		var buf bytes.Buffer
		if err := png.Encode(&buf, out); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name+as.name+".png"), buf.Bytes(), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	p.Size(1280, 900)
	p.Scheme("light")
}

// instances starts three servers and a sidecar, which are the instances stt-1 to stt-4 of stt-worker.
func (s *pairs) instances() *testenv.Cluster {
	c := testenv.NewCluster(s.T, "LITESTREAM_S3_ENDPOINT=file://"+s.TempDir(), "LITESTREAM_S3_PATH=prod", "OPENAI_API_KEY=of-the-environment", "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_ACK_OPEN=1")
	for i, role := range []string{conf.MemberServer, conf.MemberServer, conf.MemberServer, conf.MemberSidecar} {
		c.Join(role, fmt.Sprintf("CONFIG_INSTANCE=stt-%d", i+1), fmt.Sprintf("CONFIG_LABELS=zone=%c", 'a'+i/2))
	}
	c.AwaitVoters(3)
	return c
}

// says has services acknowledge the version that their agents serve now.
func (s *pairs) says(status, more string, nodes ...*testenv.Node) {
	s.Helper()
	for _, n := range nodes {
		testenv.Await(s, n.ID+" to take the word of its service", func() bool {
			doc, err := n.TryDocument("stt-worker")
			return err == nil && testenv.Do("POST", "http://"+n.LocalAddr+"/v1/ack/stt-worker",
				fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":%q%s}`, doc.Metadata.Version, doc.Metadata.Epoch, status, more)).Status == http.StatusAccepted
		})
	}
}

// everyday are the states of a cluster that works, until two of three voters are gone.
func (s *pairs) everyday() {
	c := s.instances()
	a := c.Nodes[0]
	token := func(name, role string) string {
		var made struct{ Token string }
		a.Try("POST", "/api/config/tokens", `{"name":"`+name+`","role":"`+role+`"}`).Into(s, &made)
		return made.Token
	}
	ann, bo, cy := token("ann", "config.write"), token("bo", "config.write"), token("cy", "config.read")
	change := func(who, reason, service, patch string) {
		s.Helper()
		a.Try("PATCH", "/api/config/services/"+service, patch, "X-API-Token: "+who, "X-Config-Reason: "+reason).OK(s)
	}
	change(ann, "short pauses were cut off", "stt-worker", `{"vad_silence_duration_ms":650}`)
	change(bo, "quieter room", "stt-worker", `{"vad_threshold":0.6,"whisper_model":"small.en"}`)
	change(ann, "more partials for the panel", "stt-worker", `{"streaming_partials":true}`)
	change(bo, "shorter answers", "llm-worker", `{"temperature":0.4,"max_tokens":320}`)
	a.Try("PUT", "/api/config/profiles/night", `{"description":"Quiet, for the night","services":{"tts-worker":{"volume_percent":20},"stt-worker":{"vad_threshold":0.7}}}`).OK(s)
	a.Try("PUT", "/api/config/profiles/bench", `{"description":"As tuned on the bench","services":{"stt-worker":{"vad_silence_duration_ms":900}}}`).OK(s)
	a.Try("PUT", "/api/config/services/llm-worker/secrets/proxy_password", `{"value":"correct horse battery staple"}`).OK(s)

	p := signIn(s.T, a.AdminAddr, bo)
	s.take(p, "services")
	p.Open("/services/stt-worker")
	s.take(p, "service")
	p.Open("/services/llm-worker?edit")
	p.Click("All")
	p.Enter("i-temperature", "2.4")
	p.Enter("i-max_tokens", "much")
	p.Shows("2 fields are invalid")
	p.Confirm()
	p.Await("the summary", "document.activeElement.id === 'summary'")
	s.take(p, "service-edit")
	p.Click("Discard")
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.55")
	p.Enter("i-whisper_model", "medium.en")
	p.Shows("checked")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")
	s.take(p, "service-review")
	p.Click("Back to the form")
	change(ann, "for the new panel", "stt-worker", `{"sample_rate":48000}`)
	p.Shows("there is no conflict")
	s.take(p, "service-behind")
	change(ann, "the hall is louder", "stt-worker", `{"vad_threshold":0.7}`)
	p.Click("Decide")
	p.Await("the choice", "document.querySelector('main input[type=radio]')")
	s.take(p, "conflict")
	p.Run("document.querySelector('main label.info input').click()")
	p.Shows("1 of 1 decided")
	p.Confirm()
	p.Await("the rest of the difference", "document.querySelector('dialog .change')")
	p.Confirm()
	p.Shows("Saved as v")
	s.says("applied", "", c.Nodes...)
	p.Shows("4 of 4 instances have it")
	s.take(p, "service-saved")
	s.steps(c, p)
	p.Open("/search?q=threshold")
	s.take(p, "search")
	p.Open("/services/stt-worker/history")
	s.take(p, "history")
	p.Open("/profiles")
	s.take(p, "profiles")
	p.Open("/services/llm-worker/secrets")
	p.Click("Reveal proxy_password")
	p.Fill("Why do you need to see it?", "restoring the proxy by hand")
	s.take(p, "secrets-reveal")
	later(p, 0)
	p.Click("Reveal for 30 s")
	p.Shows("hidden in")
	later(p, 6000)
	s.take(p, "secrets")
	p.Open("/services/stt-worker/schema")
	file := filepath.Join(s.TempDir(), "stt-worker.json")
	if err := os.WriteFile(file, []byte(`{"type":"object","additionalProperties":false,"properties":{"vad_silence_duration_ms":{"type":"integer","minimum":0,"maximum":600,"default":500,"description":"Silence that ends an utterance"},"beam_size":{"type":"integer","minimum":1,"maximum":10,"default":5,"description":"Beams of the decoder"}}}`), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := chromedp.Do(p.Ctx, chromedp.SetUploadFiles(chromedp.CSS(`input[type=file]`), []string{file}, chromedp.NodeReady)); err != nil {
		s.Fatal(err)
	}
	p.Shows("would break")
	s.take(p, "schema")
	p.Open("/cog/cluster")
	s.take(p, "cluster")
	p.Click("Add an agent")
	p.Click("Make the command")
	p.Shows("Waiting for the agent to join")
	s.take(p, "cluster-join")
	p.Click("Done")
	p.Open("/cog/backup")
	testenv.Await(s, "the copy", func() bool {
		var st struct{ Status string }
		return json.Unmarshal(a.Admin("GET", "/api/config/backups/status", "").Body, &st) == nil && st.Status == "healthy"
	})
	p.Click("Run a drill now")
	p.Shows("Restored and compared")
	s.take(p, "backup")
	p.Open("/cog/keys")
	p.Click("Rotate master")
	p.Fill("Reason", "a year is over")
	p.Confirm()
	p.Shows("Rotation of master")
	s.take(p, "keys")
	p.Open("/cog/tokens")
	p.Click("New token")
	p.Fill("For whom or what", "panel")
	p.Click("Create token")
	p.Shows("is shown once")
	s.take(p, "tokens")
	p.Open("/cog/access")
	s.take(p, "access")
	p.Open("/cog/about")
	s.take(p, "about")
	reads := signIn(s.T, a.AdminAddr, cy)
	reads.Open("/services/stt-worker")
	s.take(reads, "service-readonly")

	for _, other := range c.Nodes[1:] {
		other.Kill()
	}
	p.Await("the banner", "document.querySelector('.banner')?.innerText.includes('1 of 3 voters')")
	p.Open("/cog/health")
	s.take(p, "health")
	p.Open("/services/stt-worker")
	s.take(p, "outage")
}

// steps are the states of a change that goes out in steps, and of one that an instance refuses.
func (s *pairs) steps(c *testenv.Cluster, p *browser.Tab) {
	p.Open("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.6")
	p.Shows("checked")
	p.Confirm()
	p.Click("One first")
	p.Write("less noise in the evening")
	p.Click("Start the rollout of v")
	p.Shows("step 1 of 3")
	var on *testenv.Node
	testenv.Await(s, "an instance that has the candidate", func() bool {
		for _, n := range c.Nodes {
			if doc, err := n.TryDocument("stt-worker"); err == nil && doc.Metadata.Channel != "" {
				on = n
			}
		}
		return on != nil
	})
	s.says("applied", "", on)
	p.Shows("baking")
	s.take(p, "rollout")
	p.Click("Abort")
	p.Click("Abort, v")
	p.Shows("Rolled back")
	s.says("applied", "", c.Nodes[0], c.Nodes[2], c.Nodes[3])
	s.says("rejected", `,"reason":"port in use","worker":"w1","details":[{"key":"vad_threshold","message":"the detector restarts, but its port 9101 is still in use"}]`, c.Nodes[1])
	p.Open("/services/stt-worker/instances")
	p.Shows("stt-2 refused: port in use")
	s.take(p, "instances")
}

// apart are the states of an agent that has nothing yet, and of who is not signed in.
func (s *pairs) apart() {
	a := testenv.StartProcess(s.T, "CONFIG_SCHEMA_DIR="+s.TempDir())
	p := browser.Open(s)
	p.Visit("http://" + a.AdminAddr + "/")
	p.Enter("token", "not-the-token")
	p.Click("Sign in")
	p.Shows("The token is wrong")
	s.take(p, "signin")
	p.Enter("token", testenv.WriteToken)
	p.Click("Sign in")
	p.Shows("No services yet")
	s.take(p, "services-empty")
	p.Run("await fetch('/api/session', { method: 'DELETE' })")
	p.At("/cog/tokens")
	p.Shows("Your session has ended")
	s.take(p, "session-ended")
}
