package testenv

import "github.com/holdfast-config/holdfast/testenv/base"

// Patience is how long Await waits.
const Patience = base.Patience

// What package base has for tests that cannot import this package.
var (
	Await        = base.Await
	AwaitWithin  = base.AwaitWithin
	NoLeaks      = base.NoLeaks
	FreePorts    = base.FreePorts
	FreePortRows = base.FreePortRows
	PortFree     = base.PortFree
	Missing      = base.Missing
	MissingPart  = base.MissingPart
	Need         = base.Need

	poll = base.Poll
)
