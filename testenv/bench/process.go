package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of this run.
type child struct {
	cmd *exec.Cmd
	log *os.File
}

// spawn starts a process that dies with this one.
func (b *bench) spawn(log string, env []string, name string, args ...string) (*child, error) {
	return b.spawnOn(nil, log, env, name, args...)
}

// spawnOn is spawn with the processors that the process may have, nil for all.
func (b *bench) spawnOn(cpus *unix.CPUSet, log string, env []string, name string, args ...string) (*child, error) {
	f, err := os.OpenFile(filepath.Join(b.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(name, args...), log: f}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = f, f
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread: main's lives on
	if cpus != nil {       // the child inherits them
		defer pin(cpus)()
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	b.children = append(b.children, c)
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		_ = c.log.Close()
	}
}

func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := c.cmd.Wait()
	_ = c.log.Close()
	return err
}

func (b *bench) stopAll() {
	for _, c := range b.children {
		c.kill()
	}
}

// agent is a real agent with generated services.
type agent struct {
	*child
	bench        *bench
	name         string
	env          []string
	local, admin string
	mqtt         string // none for none
	services     int
	cpus         *unix.CPUSet // that it may have, nil for all
}

const token = "bench-token"

// newAgent makes an agent with n services of b.keys keys each and starts it, with env for
// settings that differ from those of the others.
func (b *bench) newAgent(name string, n int, env ...string) (*agent, error) {
	a, err := b.makeAgent(name, n, env...)
	if err != nil {
		return nil, err
	}
	if err := a.start(); err != nil {
		return nil, err
	}
	return a, a.settle()
}

// makeAgent is newAgent before its start.
func (b *bench) makeAgent(name string, n int, env ...string) (*agent, error) {
	schemas := filepath.Join(b.dir, name+"-schemas")
	if err := os.MkdirAll(schemas, 0o700); err != nil {
		return nil, err
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(schemas, service(i)+".json"), b.schema(i), 0o600); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	a := &agent{
		bench: b, name: name, services: n,
		local: "127.0.0.1:" + ports[0], admin: "127.0.0.1:" + ports[1],
		env: []string{
			"CONFIG_DATA_DIR=" + filepath.Join(b.dir, name),
			"CONFIG_LOCAL_ADDR=127.0.0.1:" + ports[0], "CONFIG_MANAGER_HOST=127.0.0.1", "CONFIG_MANAGER_PORT=" + ports[1],
			"CONFIG_UI_ADDR=none", "CONFIG_CLUSTER_ADDR=127.0.0.1:" + ports[2], "CONFIG_MQTT_ADDR=none", "CONFIG_SCHEMA_DIR=" + schemas,
			"CONFIG_API_TOKENS=" + token + ":config.write", "CONFIG_MANAGER_LOG_LEVEL=WARNING", "CONFIG_VERIFY_EVERY=0s",
		},
	}
	a.env = append(a.env, env...)
	return a, nil
}

// settle waits until all services are loaded, and until the agent has done what
// that leaves to do: it has stopped using the processor.
func (a *agent) settle() error {
	names := 0
	if err := a.await("all services", 5*time.Minute, func() bool {
		r, err := request("GET", "http://"+a.admin+"/api/config/services", "", "X-API-Token", token)
		if err != nil || r.Status != http.StatusOK {
			return false
		}
		names = strings.Count(string(r.Body), `"service":`)
		return names == a.services
	}); err != nil {
		return fmt.Errorf("%w (%d of %d)", err, names, a.services)
	}
	quiet, last := 0, -1.0
	looked := time.Now()
	return a.await("the agent to be idle", 2*time.Minute, func() bool {
		if time.Since(looked) < 250*time.Millisecond {
			return false
		}
		looked = time.Now()
		used, err := a.cpu()
		if err != nil {
			return false
		}
		if used-last > 0.02 { // of a quarter of a second
			quiet = 0
		} else {
			quiet++
		}
		last = used
		return quiet >= 8
	})
}

// cpu is the processor time that the agent has used, in seconds.
func (a *agent) cpu() (float64, error) { return cpuOf(a.cmd.Process.Pid) }

func cpuOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is short")
	}
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100, errors.Join(err1, err2)
}

func (a *agent) start() (err error) {
	a.child, err = a.bench.spawnOn(a.cpus, a.name+".log", a.env, a.bench.options.agent, "agent")
	return err
}

// service names service i; the names spread over the alphabet.
func service(i int) string { return fmt.Sprintf("%c-service-%05d", 'a'+i%26, i) }

// schema is that of service i: b.keys integers with descriptions. The document
// that an agent serves of 50 keys is about 1.2 KB.
func (b *bench) schema(i int) []byte {
	properties := map[string]any{}
	for k := range b.keys {
		properties[fmt.Sprintf("key_%02d", k)] = map[string]any{
			"type": "integer", "default": 1000 + (i+k)%9000, "minimum": 0, "maximum": 1 << 30,
			"description": fmt.Sprintf("What key %d does", k),
		}
	}
	data, err := json.Marshal(map[string]any{"type": "object", "additionalProperties": false, "properties": properties})
	if err != nil {
		panic(err) // integers and strings always marshal
	}
	return data
}

// reply is an HTTP answer, read whole.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
}

var client = &http.Client{Timeout: time.Minute}

func request(method, url, body string, headers ...string) (reply, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, data}, err
}

func (a *agent) get(service, etag string) (reply, error) {
	if etag != "" {
		return request("GET", "http://"+a.local+"/v1/config/"+service, "", "If-None-Match", etag)
	}
	return request("GET", "http://"+a.local+"/v1/config/"+service, "")
}

// await looks at cond every few milliseconds.
func (a *agent) await(what string, patience time.Duration, cond func() bool) error {
	pause := 5 * time.Millisecond
	if a.services > 1000 {
		pause = 500 * time.Millisecond // a list of many services is work, too
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	end := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-a.bench.ctx.Done():
			return a.bench.ctx.Err()
		case <-end:
			return fmt.Errorf("waited %v in vain for %s; the agent printed:\n%s", patience, what, a.tail())
		}
	}
	return nil
}

// tail is the last of what the agent printed.
func (a *agent) tail() string {
	text, err := os.ReadFile(filepath.Join(a.bench.dir, a.name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// bareOf takes an agent's answers down for the bare server to give, and starts it.
func (b *bench) bareOf(a *agent, service string) (*child, string, answer, error) {
	full, err := a.get(service, "")
	if err != nil {
		return nil, "", answer{}, err
	}
	ans := answer{ETag: full.Header.Get("ETag"), Header: full.Header, Body: full.Body}
	none, err := a.get(service, ans.ETag)
	if err != nil {
		return nil, "", ans, err
	}
	if full.Status != 200 || none.Status != 304 {
		return nil, "", ans, fmt.Errorf("answers with %d and %d, want 200 and 304", full.Status, none.Status)
	}
	ans.Header304 = none.Header
	spec := filepath.Join(b.dir, service+".spec.json")
	data, err := json.Marshal(ans)
	if err == nil {
		err = os.WriteFile(spec, data, 0o600)
	}
	if err != nil {
		return nil, "", ans, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", ans, err
	}
	addr := "127.0.0.1:" + ports[0]
	self, err := os.Executable()
	if err != nil {
		return nil, "", ans, err
	}
	c, err := b.spawnOn(servers(), "bare.log", nil, self, "-bare", addr, "-spec", spec)
	if err != nil {
		return nil, "", ans, err
	}
	return c, addr, ans, a.await("the bare server", time.Minute, func() bool {
		r, err := request("GET", "http://"+addr+"/", "")
		return err == nil && string(r.Body) == string(full.Body)
	})
}

// nextPort is the next one of those that -ports gives, 0 without.
var nextPort int

// freePorts returns ports that nobody listens on.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		at := "127.0.0.1:0"
		if nextPort != 0 {
			at = "127.0.0.1:" + strconv.Itoa(nextPort)
			nextPort++
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
