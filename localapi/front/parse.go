package front

import "bytes"

// verdict is what a number of bytes turned out to be.
type verdict uint8

const (
	plain  verdict = iota // a whole plain read
	partly                // the beginning of one
	other                 // something else
)

// head is where the parts of a plain read are.
type head struct {
	size  int // of the request
	isGet bool
	path  []byte
	host  []byte
	tags  []byte // If-None-Match, nil without
}

// Headers of a plain read. Those that are ignored decide nothing about a response: not in
// net/http, not in a handler.
const (
	fieldHost       = iota
	fieldTags       // If-None-Match
	fieldConnection // keep-alive only
	fieldIgnored
)

type field struct {
	name string // in lower case
	kind int
	bit  uint32 // to find a second one
}

// fields by the length of the name.
var fields = func() (byLength [20][]field) {
	for i, f := range []field{
		{name: "host", kind: fieldHost},
		{name: "if-none-match", kind: fieldTags},
		{name: "connection", kind: fieldConnection},
		{name: "user-agent", kind: fieldIgnored},
		{name: "accept", kind: fieldIgnored},
		{name: "accept-encoding", kind: fieldIgnored},
		{name: "accept-language", kind: fieldIgnored},
		{name: "accept-charset", kind: fieldIgnored},
		{name: "cache-control", kind: fieldIgnored},
		{name: "pragma", kind: fieldIgnored},
		{name: "sec-fetch-mode", kind: fieldIgnored},
		{name: "sec-fetch-dest", kind: fieldIgnored},
		{name: "priority", kind: fieldIgnored},
		{name: "traceparent", kind: fieldIgnored},
		{name: "tracestate", kind: fieldIgnored},
		{name: "baggage", kind: fieldIgnored},
		{name: "b3", kind: fieldIgnored},
		{name: "x-request-id", kind: fieldIgnored},
	} {
		f.bit = 1 << i
		byLength[len(f.name)] = append(byLength[len(f.name)], f)
	}
	return byLength
}()

// Paths of documents.
const (
	ownPath      = "/v1/config"
	namedPrefix  = "/v1/config/"
	protocolPart = " HTTP/1.1"
)

// parse looks at the bytes that a connection begins with, or that follow a whole request.
// Each complete line is judged at once: net/http answers a bad one without waiting for the
// rest.
func parse(b []byte) (h head, v verdict) {
	line, rest, ok := cutLine(b)
	if !ok {
		return h, partOfLine(b)
	}
	if !h.requestLine(line) {
		return h, other
	}
	var seen uint32
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return h, partOfLine(rest)
		}
		if len(line) == 0 {
			break
		}
		bit := h.field(line)
		if bit == 0 || seen&bit != 0 {
			return h, other
		}
		seen |= bit
	}
	if len(h.host) == 0 {
		return h, other
	}
	h.size = len(b) - len(rest)
	return h, plain
}

// cutLine returns a line without its end; a bare line feed stays in it.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, false
	}
	if i == 0 || b[i-1] != '\r' {
		return b[:i+1], b[i+1:], true
	}
	return b[:i-1], b[i+1:], true
}

// partOfLine judges the beginning of a line. What it cannot be is found when it is whole.
func partOfLine(b []byte) verdict {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	if !printable(b) {
		return other
	}
	return partly
}

// requestLine reads the first line.
func (h *head) requestLine(line []byte) bool {
	switch {
	case bytes.HasPrefix(line, []byte("GET ")):
		h.isGet, line = true, line[4:]
	case bytes.HasPrefix(line, []byte("HEAD ")):
		line = line[5:]
	default:
		return false
	}
	path, ok := bytes.CutSuffix(line, []byte(protocolPart))
	if !ok {
		return false
	}
	h.path = path
	if string(path) == ownPath {
		return true
	}
	name, ok := bytes.CutPrefix(path, []byte(namedPrefix))
	if !ok || len(name) == 0 {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// field reads the line of a header and returns its bit, 0 for a line that is not plain.
func (h *head) field(line []byte) uint32 {
	i := bytes.IndexByte(line, ':')
	if i <= 0 || i >= len(fields) {
		return 0
	}
	f := find(line[:i])
	value := line[i+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	if f == nil || !printable(value) || len(value) > 0 && (value[0] == ' ' || value[len(value)-1] == ' ') {
		return 0
	}
	switch f.kind {
	case fieldHost:
		if !hostLike(value) {
			return 0
		}
		h.host = value
	case fieldTags:
		h.tags = value
	case fieldConnection:
		if !is(value, "keep-alive") {
			return 0
		}
	}
	return f.bit
}

func find(name []byte) *field {
	of := fields[len(name)]
	for i := range of {
		if is(name, of[i].name) {
			return &of[i]
		}
	}
	return nil
}

// is compares without regard to the case of ASCII letters.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// printable reports whether all of b is printable ASCII or a space.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// hostLike reports whether a Host header is a name or an address, with or without a port.
func hostLike(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != ':' && c != '-' && c != '_' && c != '[' && c != ']' {
			return false
		}
	}
	return len(b) > 0
}
