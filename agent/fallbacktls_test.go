package agent_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/fallback"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestFallbackSpeaksTLS has an agent with a certificate fail to start: its admin port
// says why over HTTPS, and nothing in plain HTTP.
func TestFallbackSpeaksTLS(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	r.Stop()
	o.ManagerCert, o.ManagerKey = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writeCertificate(t, o.ManagerCert, o.ManagerKey, 1)
	addr := freeAddr(t)
	_, o.ManagerPort, _ = net.SplitHostPort(addr)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- fallback.Run(ctx, fallback.Setup{
			Options: o, Logger: r.Log, Resolve: func() (options.Options, error, error) { return o, nil, nil },
			New: func(context.Context, options.Options, *process.Held) (fallback.Runner, error) {
				return (*agent.Agent)(nil), conf.Errorf(conf.CodeInvalid, "its disk is full")
			},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the fallback ended with %v", err)
		}
	})
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	ask := func(url string) (int, string) {
		res, err := web.Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	r.Await("the health by HTTPS", func() bool {
		code, body := ask("https://" + addr + "/api/config/health")
		return code == http.StatusOK && strings.Contains(body, "its disk is full")
	})
	if code, body := ask("http://" + addr + "/api/config/health"); code == http.StatusOK || strings.Contains(body, "operational_mode") {
		t.Errorf("in plain HTTP: %d %s", code, body)
	}
}
