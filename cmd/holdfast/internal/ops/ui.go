package ops

import (
	"cmp"
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// UI returns the command holdfast ui.
func UI(a *cli.App) *cobra.Command {
	var printOnly bool
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Show where the web page is, and open it in the browser",
		Long: `Print the address of the agent's web page: that of CONFIG_UI_ADDR where it is on, else the
admin port. On a terminal of a desktop it is opened in the browser, too. The page asks for
an API token; "holdfast dev" prints an address that signs in once.`,
		Example: `  holdfast ui
  holdfast ui --print`,
		Args: cli.Needs(),
	}
	cmd.Flags().BoolVar(&printOnly, "print", false, "do not open a browser")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.IsObserver() {
			return conf.Errorf(conf.CodeUnsupported, "an observer has no web page").WithHint("ask a server with --admin-url http://HOST:8081")
		}
		c, err := a.Local(false)
		if err != nil {
			return err
		}
		o, err := a.Options()
		if err != nil {
			return err
		}
		url := strings.TrimRight(c.AdminURL(), "/") + "/"
		if _, _, err := net.SplitHostPort(o.UIAddr); err == nil && c.AdminURL() == o.AdminURL() {
			url = o.AdminScheme() + o.UIAddr + "/" // where the running agent says that it is
		}
		if _, err := c.Health(cmd.Context()); err != nil { // a page that nobody serves helps nobody
			return err
		}
		if err := a.Print(map[string]string{"url": url}, "%s", url); err != nil {
			return err
		}
		if opener := browser(); opener != "" && !printOnly && cli.IsTerminal(a.Out) {
			if err := exec.CommandContext(context.WithoutCancel(cmd.Context()), opener, url).Start(); err != nil {
				a.Note("the browser does not start: %v", err)
			}
		}
		return nil
	}
	return cmd
}

// browser is the program that opens an address, "" where there is no screen.
func browser() string {
	if runtime.GOOS == "darwin" {
		return "open"
	}
	if cmp.Or(os.Getenv("WAYLAND_DISPLAY"), os.Getenv("DISPLAY")) == "" {
		return ""
	}
	path, err := exec.LookPath("xdg-open")
	if err != nil {
		return ""
	}
	return path
}
