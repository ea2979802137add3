package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// one is the browser of this process.
var one struct {
	sync.Mutex
	ctx context.Context
	end func()
}

// starts is how often Chromium is started before a test fails: on a busy machine it may
// give up by itself.
const starts = 3

// program is the path of Chromium. Without one the test is skipped, but never under CI.
func program(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	base.Missing(t, "chromium is not installed: make test-tools installs it")
	return ""
}

// Start starts a Chromium with more flags and gives its context and its end.
func Start(path, dir string, flags ...chromedp.ExecAllocatorOption) (context.Context, func(), error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, // as root in a container
		chromedp.UserDataDir(dir), chromedp.Flag("no-proxy-server", true), chromedp.WSURLReadTimeout(base.Patience))
	var failed []error
	for range starts {
		// It is not the browser of one test: it has to be there for what is asked when that has failed.
		ctx, cancelAll := chromedp.NewExecAllocator(context.Background(), append(options, flags...)...)
		ctx, cancel := chromedp.NewContext(ctx)
		end := func() { cancel(); cancelAll() }
		err := chromedp.Do(ctx)
		if err == nil {
			return ctx, end, nil
		}
		end()
		failed = append(failed, err)
	}
	return nil, nil, fmt.Errorf("chromium did not start %d times: %w", starts, errors.Join(failed...))
}

// Alone is a browser of its own for one test, with flags that others must not have.
func Alone(t testing.TB, flags ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	ctx, end, err := Start(program(t), t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	ctx, cancel := context.WithTimeout(ctx, 5*base.Patience)
	t.Cleanup(cancel)
	return ctx
}

// shared is the browser of this process; one that has died is replaced.
func shared(t testing.TB) context.Context {
	t.Helper()
	path := program(t)
	one.Lock()
	defer one.Unlock()
	if one.ctx != nil && one.ctx.Err() == nil {
		return one.ctx
	}
	closeOne()
	dir, err := os.MkdirTemp("", "holdfast-browser-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end, err := Start(path, dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		t.Fatal(err)
	}
	one.ctx, one.end = ctx, func() {
		end()
		base.Poll(base.Patience/4, func() bool { return os.RemoveAll(dir) == nil }) // what Chromium started may still write there
	}
	return ctx
}

func closeOne() {
	if one.end != nil {
		one.end()
		one.ctx, one.end = nil, nil
	}
}

// End closes the browser of this process, and passes on the code that the tests ended with.
func End(code int) int {
	one.Lock()
	defer one.Unlock()
	closeOne()
	return code
}
