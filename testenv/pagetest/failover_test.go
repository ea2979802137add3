package pagetest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// balance listens on a port and passes connections on to where addr points at the time.
func balance(t *testing.T, addr *atomic.Pointer[string]) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	keep := func(c net.Conn) { mu.Lock(); open[c] = true; mu.Unlock() }
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			keep(in)
			out, err := net.Dial("tcp", *addr.Load())
			if err != nil {
				_ = in.Close()
				continue
			}
			keep(out)
			wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
	return l.Addr().String()
}

// TestFailover has the leader, whose page is open through a load balancer, die while a draft
// is open: the session goes on at another server, and the draft is saved there.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := testenv.StartCluster(t, 3, 0)
	leader := c.Leader()
	version := leader.Patch("stt-worker", `{"vad_threshold":0.6}`)
	var target atomic.Pointer[string]
	target.Store(&leader.AdminAddr)
	p := browser.Open(t)
	p.Visit("http://" + balance(t, &target) + "/")
	p.Enter("token", testenv.WriteToken)
	p.Press(kb.Enter)
	p.Await("the list of services", "document.querySelector('tbody a.name')")
	p.At("/services/stt-worker?edit")
	p.Enter("i-vad_threshold", "0.7")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")

	leader.Kill()
	next := c.Leader() // elected by the two that are left
	target.Store(&next.AdminAddr)
	p.Await("the page to ask the next leader", fmt.Sprintf("document.querySelector('.app').innerText.includes(%q) && !document.querySelector('.banner')", next.ID))
	if got := browser.Eval[string](p, `document.getElementById('i-vad_threshold').value`); got != "0.7" {
		t.Errorf("the draft is %q after the failover", got)
	}
	p.Enter("i-whisper_model", "medium.en")
	p.Await("the values to be checked", "document.querySelector('.savebar').innerText.includes('checked')")
	p.Confirm()
	p.Await("the difference", "document.querySelectorAll('dialog .change').length === 2")
	p.Write("after the failover")
	p.Confirm()
	p.Shows(fmt.Sprintf("Saved as v%d", version+1))
	if _, value, reason := history(t, &next.API, "stt-worker", "vad_threshold"); fmt.Sprint(value) != "0.7" || reason != "after the failover" {
		t.Errorf("the next leader has %v %q", value, reason)
	}
}
