package broker

import "strings"

const (
	root       = "system/"
	maxFilter  = 256 // bytes
	maxLevels  = 4
	wildOne    = "+"
	wildAll    = "#"
	levelSlash = "/"
)

// allowedFilter reports whether a client may subscribe to f: it must be below "system/", with
// wildcards where MQTT allows them.
func allowedFilter(f string) bool {
	rest, ok := strings.CutPrefix(f, root)
	if !ok || rest == "" || len(f) > maxFilter || strings.Count(f, levelSlash) >= maxLevels {
		return false
	}
	for level := range strings.SplitSeq(rest, levelSlash) {
		if strings.ContainsAny(level, "+#\x00") && level != wildOne && level != wildAll {
			return false
		}
	}
	i := strings.Index(f, wildAll)
	return i < 0 || i == len(f)-1
}

// matches reports whether filter f covers topic, as MQTT 4.7 defines it.
func matches(f, topic string) bool {
	for {
		fl, fRest, fMore := strings.Cut(f, levelSlash)
		if fl == wildAll {
			return true
		}
		tl, tRest, tMore := strings.Cut(topic, levelSlash)
		if fl != wildOne && fl != tl {
			return false
		}
		switch {
		case !fMore && !tMore:
			return true
		case fMore && !tMore:
			return fRest == wildAll // "a/#" covers "a" too
		case !fMore:
			return false
		}
		f, topic = fRest, tRest
	}
}
