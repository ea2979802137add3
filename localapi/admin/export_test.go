package admin

import (
	"time"

	"github.com/holdfast-config/holdfast/localapi/fairqueue"
)

// PatientShare is NewShare for a test whose requests wait as long as necessary.
func PatientShare() *Limits {
	limits := fairqueue.DefaultLimits
	limits.Timeout = time.Hour
	return &Limits{queue: fairqueue.New(limits)}
}
