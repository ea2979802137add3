package pagetest

import (
	"os"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

func TestMain(m *testing.M) { os.Exit(browser.End(testenv.Main(m))) }
