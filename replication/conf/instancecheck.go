package conf

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what an instance says of itself.
const (
	MaxLabels    = 16
	MaxDetails   = 32
	MaxAckBytes  = 4 << 10 // of the body of an acknowledgement
	MaxWorker    = 64      // bytes of the name of a worker
	maxLabelText = 63      // bytes of the name and of the value of a label
	maxReads     = 256     // keys in one report
)

var (
	labelNameRE  = regexp.MustCompile(`^[a-z][a-z0-9._-]*$`)
	labelValueRE = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	workerRE     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]*$`)
)

// CheckInstance checks the name of an instance.
func CheckInstance(s string) error { return checkID("instance", s) }

// CheckLabels checks the labels of an instance.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Errorf(CodeInvalid, "%d labels, at most %d are allowed", len(labels), MaxLabels)
	}
	for _, name := range SortedKeys(labels) {
		if err := checkName("label name", name, maxLabelText, labelNameRE, "lower-case letters, digits, dots, hyphens and underscores, a letter first"); err != nil {
			return err
		}
		if err := checkName("value of the label "+name, labels[name], maxLabelText, labelValueRE, "letters, digits, dots, hyphens and underscores"); err != nil {
			return err
		}
	}
	return nil
}

// ParseLabels reads zone=a,tier=canary.
func ParseLabels(s string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if _, twice := out[name]; !ok || twice {
			return nil, Errorf(CodeInvalid, "bad label %q", Clip(part)).WithHint("write labels as zone=a,tier=canary, each name once")
		}
		out[name] = value
	}
	if len(out) == 0 {
		return nil, nil //nolint:nilnil // no labels
	}
	return out, CheckLabels(out)
}

// CheckText checks text that is shown to people: valid UTF-8 without control characters.
func CheckText(what, s string, limit int) error {
	if len(s) > limit {
		return Errorf(CodeInvalid, "%s has %d bytes, at most %d are allowed", what, len(s), limit).WithHint("shorten it")
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return Errorf(CodeInvalid, "%s has control characters, or is not UTF-8", what).WithHint("send one line of plain text")
	}
	return nil
}

// Check rejects an acknowledgement that says nothing, or more than it may.
func (a *Ack) Check() error {
	switch a.Status {
	case InstanceApplying, InstanceApplied, InstanceRejected:
	default:
		return Errorf(CodeInvalid, "bad status %q", Clip(string(a.Status))).WithHint("use %s, %s or %s", InstanceApplying, InstanceApplied, InstanceRejected)
	}
	if a.Version == 0 || a.Version > MaxInteger {
		return Errorf(CodeInvalid, "version is needed").WithHint("send that of the document: metadata.version, or X-Config-Version")
	}
	if a.Epoch == "" {
		return Errorf(CodeInvalid, "config_epoch is needed").WithHint("send that of the document: metadata.config_epoch, or X-Config-Epoch")
	}
	return checkVerdict(a.Epoch, a.Reason, a.Worker, a.Details)
}

func checkVerdict(epoch, reason, worker string, details []AckDetail) error {
	if err := CheckText("config_epoch", epoch, MaxName); err != nil {
		return err
	}
	if err := CheckText("reason", reason, MaxReason); err != nil {
		return err
	}
	if worker != "" {
		if err := checkName("worker", worker, MaxWorker, workerRE, "letters, digits and . _ : @ -, a letter or digit first"); err != nil {
			return err
		}
	}
	if len(details) > MaxDetails {
		return Errorf(CodeInvalid, "%d details, at most %d are allowed", len(details), MaxDetails)
	}
	for _, d := range details {
		if err := CheckText("key of a detail", d.Key, MaxKey); err != nil {
			return err
		}
		if err := CheckText("message of a detail", d.Message, MaxReason); err != nil {
			return err
		}
	}
	return nil
}

// Check rejects a report that no agent makes.
func (r *Report) Check() error {
	if err := CheckInstance(r.Instance); err != nil {
		return err
	}
	if err := CheckNode(r.Node); err != nil {
		return err
	}
	if err := CheckService(r.Service); err != nil {
		return err
	}
	if err := CheckLabels(r.Labels); err != nil {
		return err
	}
	switch r.Status {
	case InstanceReceived, InstanceRead, InstanceApplying, InstanceApplied, InstanceRejected:
	default:
		return Errorf(CodeInvalid, "bad status %q", Clip(string(r.Status)))
	}
	switch r.Health {
	case HealthUnknown, HealthHealthy, HealthUnhealthy:
	default:
		return Errorf(CodeInvalid, "bad health %q", Clip(r.Health))
	}
	for _, at := range []string{r.Since, r.HealthSince} {
		if at != "" {
			if _, err := ParseTime(at); err != nil {
				return err
			}
		}
	}
	if err := CheckText("boot", r.Boot, MaxName); err != nil {
		return err
	}
	if r.Version > MaxInteger || r.Refused > MaxInteger || r.Revert > MaxInteger {
		return Errorf(CodeInvalid, "a version is over the limit")
	}
	if len(r.Reads) > maxReads {
		return Errorf(CodeInvalid, "%d keys, at most %d are allowed in one report", len(r.Reads), maxReads)
	}
	for _, k := range r.Reads {
		if err := CheckText("key", k.Key, MaxKey); err != nil {
			return err
		}
		if _, err := ParseTime(k.At); err != nil {
			return err
		}
	}
	return checkVerdict(r.Epoch, r.Reason, r.Worker, r.Details)
}
