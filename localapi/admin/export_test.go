package admin

import (
	"time"

	"github.com/holdfast-config/holdfast/localapi/fairqueue"
)

// PatientShare is NewShare for a test whose requests wait as long as necessary.
func PatientShare() *Share {
	limits := fairqueue.DefaultLimits
	limits.Timeout = time.Hour
	return &Share{queue: fairqueue.New(limits)}
}
