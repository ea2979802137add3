package reporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	healthEvery  = 5 * time.Second
	healthLimit  = 2 * time.Second
	healthFaults = 3 // in a row, and the service is unhealthy
)

// HealthCheck is how the service is asked whether it is well. The zero value does not ask.
type HealthCheck struct {
	URL     string
	Command []string
	Every   time.Duration // default 5 s
}

// ask returns nil when the service is well.
func (h HealthCheck) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	if h.URL != "" {
		return get(ctx, h.URL)
	}
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	cmd.WaitDelay = time.Second                                   // for what it has started
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} { // not the keys and tokens of the agent
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not end within %s", h.Command[0], healthLimit)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%s ended with %s", h.Command[0], exit)
	}
	return err
}

// get asks a URL, without a proxy and without following a redirect.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	t := &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if ctx.Err() != nil {
		return fmt.Errorf("no response within %s", healthLimit)
	}
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return op // without the URL, which may hold a password
		}
		return errors.New("no response")
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// runHealth asks until ctx ends.
func (r *Reporter) runHealth(ctx context.Context) {
	check := r.o.Health
	if check.URL == "" && len(check.Command) == 0 {
		return
	}
	if check.Every <= 0 {
		check.Every = healthEvery
	}
	tick := time.NewTicker(check.Every)
	defer tick.Stop()
	for faults := 0; ; {
		err := check.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if faults++; err == nil {
			faults = 0
		}
		r.found(err, faults)
		r.refuseUnwell(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// found takes the answer to one question.
func (r *Reporter) found(err error, faults int) {
	is := r.health.is // this goroutine alone changes it
	switch {
	case err == nil:
		is = conf.HealthHealthy
	case faults >= healthFaults:
		is = conf.HealthUnhealthy
	}
	r.mu.Lock()
	changed := is != r.health.is
	if changed {
		r.health.is, r.health.since = is, r.o.Now()
	}
	if err != nil {
		r.health.reason = plain(err.Error())
	}
	for _, t := range r.services {
		if t.beside {
			t.dirty = t.dirty || changed
			t.wasWell = t.wasWell || is == conf.HealthHealthy
		}
	}
	r.mu.Unlock()
	if changed {
		r.o.Logger.Info("the health of the service beside this agent has changed", "health", is, "err", err)
	}
}

// plain is a text without control characters, as a reason has it.
func plain(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	for len(s) > conf.MaxReason/2 {
		s = strings.ToValidUTF8(s[:conf.MaxReason/2], "")
	}
	return s
}

// refuseUnwell refuses the candidate that a service beside this agent does not stay well on.
func (r *Reporter) refuseUnwell(ctx context.Context) {
	if r.o.Rollouts == nil {
		return
	}
	type refusal struct {
		service, epoch string
		version        uint64
	}
	var refusals []refusal
	r.mu.Lock()
	reason := "unhealthy: " + r.health.reason
	if r.health.is == conf.HealthUnhealthy {
		for _, t := range r.services {
			if t.beside && t.wasWell && r.o.Rollouts.Standing(t.service).Candidate {
				refusals = append(refusals, refusal{t.service, t.epoch, t.version})
			}
		}
	}
	r.mu.Unlock()
	for _, f := range refusals {
		err := r.refuse(ctx, f.service, f.epoch, f.version, Verdict{Reason: reason, Cause: CauseHealth})
		if err != nil && ctx.Err() == nil && conf.CodeOf(err) != conf.CodeConflict {
			r.o.Logger.Warn("an unhealthy service could not refuse its candidate: it is tried again", "service", f.service, "version", f.version, "err", err)
		}
	}
}
