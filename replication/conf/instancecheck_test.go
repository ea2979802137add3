package conf

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseLabels(t *testing.T) {
	t.Parallel()
	got, err := ParseLabels(" zone=a , tier=canary,")
	if err != nil || fmt.Sprint(got) != "map[tier:canary zone:a]" {
		t.Errorf("%v %v", got, err)
	}
	if got, err := ParseLabels(""); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
	many := "a0=1"
	for i := range MaxLabels {
		many += fmt.Sprintf(",a%d=1", i+1)
	}
	for _, s := range []string{"zone", "zone=", "=a", "Zone=a", "zone=a b", "zone=a,zone=b", "zone=\x00", strings.Repeat("a", 64) + "=1", many} {
		if got, err := ParseLabels(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestAckCheck(t *testing.T) {
	t.Parallel()
	good := Ack{Version: 8, Epoch: "e", Status: InstanceRejected, Reason: "port in use", Worker: "w:1", Details: []AckDetail{{"port", "taken"}}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Ack){
		"no version": func(a *Ack) { a.Version = 0 }, "no epoch": func(a *Ack) { a.Epoch = "" }, "received": func(a *Ack) { a.Status = InstanceReceived },
		"lost": func(a *Ack) { a.Status = InstanceLost }, "no status": func(a *Ack) { a.Status = "" },
		"a long reason": func(a *Ack) { a.Reason = strings.Repeat("x", MaxReason+1) }, "two lines": func(a *Ack) { a.Reason = "a\nb" },
		"an escape": func(a *Ack) { a.Reason = "\x1b[31m" }, "a C1 control": func(a *Ack) { a.Reason = "\u009b" }, "not UTF-8": func(a *Ack) { a.Reason = "\xff" },
		"a strange worker": func(a *Ack) { a.Worker = "a b" }, "a control in a detail": func(a *Ack) { a.Details[0].Message = "\a" },
		"many details": func(a *Ack) { a.Details = make([]AckDetail, MaxDetails+1) },
	} {
		a := good
		a.Details = []AckDetail{{"port", "taken"}}
		change(&a)
		if CodeOf(a.Check()) != CodeInvalid {
			t.Errorf("%s: %v", what, a.Check())
		}
	}
}

func TestReportCheck(t *testing.T) {
	t.Parallel()
	good := Report{Instance: "stt-2", Node: "n2", Service: "stt", Epoch: "e", Version: 8, Status: InstanceRead, Since: "2026-01-02T03:04:05+00:00"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Report){
		"no instance": func(r *Report) { r.Instance = "" }, "a strange instance": func(r *Report) { r.Instance = "a/b" }, "no node": func(r *Report) { r.Node = "" },
		"a strange service": func(r *Report) { r.Service = "A" }, "lost": func(r *Report) { r.Status = InstanceLost }, "no status": func(r *Report) { r.Status = "" },
		"a strange health": func(r *Report) { r.Health = "fine" }, "no time": func(r *Report) { r.Since = "now" }, "labels": func(r *Report) { r.Labels = map[string]string{"A": "b"} },
		"a control": func(r *Report) { r.Reason = "\x00" }, "a long boot": func(r *Report) { r.Boot = strings.Repeat("x", MaxName+1) },
		"many keys": func(r *Report) { r.Reads = make([]KeyRead, maxReads+1) }, "a key without a time": func(r *Report) { r.Reads = []KeyRead{{Key: "a"}} },
	} {
		r := good
		change(&r)
		if CodeOf(r.Check()) != CodeInvalid {
			t.Errorf("%s: %v", what, r.Check())
		}
	}
}
