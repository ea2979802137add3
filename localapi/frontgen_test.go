package localapi

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes what a client could send on one connection.
type generator struct {
	*rand.Rand
	tags []string
}

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

// chance is true once in n times.
func (g generator) chance(n int) bool { return g.IntN(n) == 0 }

// stream is some requests, sometimes with garbage between and damage in them.
func (g generator) stream() []byte {
	var b strings.Builder
	for range 1 + g.IntN(5) {
		g.request(&b)
		if g.chance(40) {
			b.WriteString(g.one("\r\n", "\n", "\x00", "garbage", "GET", " ", "0\r\n\r\n", "\r\n\r\n"))
		}
	}
	data := []byte(b.String())
	if g.chance(6) {
		for range 1 + g.IntN(3) {
			data = g.damage(data)
		}
	}
	if g.chance(12) {
		data = data[:g.IntN(len(data)+1)]
	}
	return data
}

const oddBytes = "\r\n\t \x00:;,/?#%\x7f\x80\xff\x0bAaZz09-_.\"*"

func (g generator) damage(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	i := g.IntN(len(b))
	c := oddBytes[g.IntN(len(oddBytes))]
	switch g.IntN(4) {
	case 0:
		b[i] = c
	case 1:
		b[i] ^= 1 << g.IntN(8)
	case 2:
		return append(b[:i:i], b[i+1:]...)
	default:
		return append(append(b[:i:i], c), b[i:]...)
	}
	return b
}

func (g generator) path() string {
	if !g.chance(4) {
		return "/v1/config" + g.one("/stt-worker", "/stt-worker", "/a", "/vault", "")
	}
	if g.chance(30) {
		return "/v1/config/large"
	}
	return g.one("/v1/config/none", "/v1/config/gone", "/v1/config/unset", "/v1/config/", "/v1/config//", "/v1/config/a/", "/v1/config/stt-worker/vad",
		"/v1/config/stt-worker/vad?raw", "/v1/config/stt-worker?", "/v1/config/a?wait=0s", "/v1/config/a?x=1", "/v1/config/stt%2dworker", "/v1/config/STT-worker",
		"/v1/config/a#b", "/v1/config/..", "/v1/config/a;b", "//v1/config/a", "/v1//config/a", "/v1/configs", "/v1/conf", "/", "*", "http://localhost/v1/config/a",
		"http://evil.example/v1/config/a", "v1/config/a", "/v1/env/stt-worker", "/v1/env", "/healthz", "/readyz", "/v1/keys", "/v1/config/a\tb", "/v1/config/é",
		"/v1/config/"+strings.Repeat("a", 1+g.IntN(200)), "/ofrep/v1/evaluate/flags", "")
}

func (g generator) spelled(name string) string {
	switch g.IntN(6) {
	case 0:
		return strings.ToLower(name)
	case 1:
		return strings.ToUpper(name)
	}
	return name
}

func (g generator) request(b *strings.Builder) {
	method, version, eol := "GET", "HTTP/1.1", "\r\n"
	if g.chance(6) {
		method = "HEAD"
	}
	if g.chance(15) {
		method = g.one("POST", "PUT", "get", "Get", "OPTIONS", "DELETE", "CONNECT", "PRI", "GETT", "GE", "", "HEAD ", " GET", "G\tT", "TRACE")
	}
	if g.chance(20) {
		version = g.one("HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", " HTTP/1.1", "HTTP/01.1", "HTTP/1.10", "", "HTTP/1", "HTTP/1.1x")
	}
	if g.chance(40) {
		eol = g.one("\n", "\r", "\r\r\n", "\n\r", " \r\n", "\r\n\r\n")
	}
	fmt.Fprintf(b, "%s %s %s%s", method, g.path(), version, eol)
	var lines []string
	lines = append(lines, g.spelled("Host")+": "+g.host())
	for g.chance(2) && len(lines) < 8 {
		lines = append(lines, g.usual())
	}
	body := ""
	if g.chance(8) {
		line, more := g.unusual()
		lines, body = append(lines, line), more
	}
	if g.chance(25) { // twice
		lines = append(lines, lines[g.IntN(len(lines))])
	}
	if g.chance(60) {
		lines = lines[1:]
	}
	g.Shuffle(len(lines), func(i, k int) { lines[i], lines[k] = lines[k], lines[i] })
	for _, l := range lines {
		end := "\r\n"
		if g.chance(200) {
			end = g.one("\n", "\r", "\r\r\n", " \r\n", "\t\r\n", "\r\n \r\n", "")
		}
		b.WriteString(l + end)
	}
	end := "\r\n"
	if g.chance(80) {
		end = g.one("\n", "", "\r", " \r\n", "\r\n\r\n", "x\r\n")
	}
	b.WriteString(end + body)
}

func (g generator) host() string {
	if !g.chance(12) {
		return g.one("localhost", "localhost:2770", "127.0.0.1:2770", "127.0.0.1", "[::1]:2770", "agent.internal", "LocalHost")
	}
	return g.one("", "evil.example", "localhost.evil.example", "localhost:", "localhost:x", "127.0.0.1:2770:1", "[::1", "::1", "[::1]x", "10.0.0.1", "127.1", "0x7f000001",
		"local host", "localhost\x00", "localhost/", "localhost,localhost", "user@localhost", "localhost ", " localhost", "\tlocalhost", "[fe80::1%25eth0]", "é", "127.0.0.2", "[::ffff:127.0.0.1]")
}

// usual is a header that clients send.
func (g generator) usual() string {
	switch g.IntN(4) {
	case 0:
		return g.spelled("If-None-Match") + ": " + g.tag()
	case 1:
		return g.spelled("Connection") + ": " + g.one("keep-alive", "Keep-Alive", "keep-alive", "KEEP-ALIVE", "close", "Upgrade", "keep-alive, close", "", "x")
	}
	name := g.one("User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Accept-Charset", "Cache-Control", "Pragma", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Priority",
		"traceparent", "tracestate", "baggage", "b3", "X-Request-Id")
	return g.spelled(name) + g.one(": ", ": ", ": ", ":", ":  ", ":\t", ": \t") + g.one("*/*", "curl/8.5", "no-cache", "gzip, deflate, br", "x", "", "a b", "a\tb", "a ", "é", "\"q\"", "a\x00b", "00-aa-bb-01")
}

func (g generator) tag() string {
	tag := g.tags[g.IntN(len(g.tags))]
	return g.one(tag, "W/"+tag, "w/"+tag, "*", `"x", W/`+tag, `"x"`, "", "x, "+tag, tag+", \"y\"", tag[:len(tag)-1], " * ", `"`, "W/", ",,"+tag, strings.Repeat(`"z",`, 40)+tag)
}

// unusual is a header that decides something, or no header at all, and what follows the
// request for it.
func (g generator) unusual() (line, body string) {
	smuggled := "GET /v1/config/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
	switch g.IntN(5) {
	case 0:
		n := len(smuggled)
		return g.one("Content-Length", "content-length", "Content-Length ", " Content-Length", "Content_Length") + ": " +
			g.one(fmt.Sprint(n), "0", "5", "-1", "+5", "0x5", "5, 5", "5,6", "00", "", "99999999999999999999", fmt.Sprint(n)+" "), g.one(smuggled, "hello", "")
	case 1:
		return "Transfer-Encoding: " + g.one("chunked", "Chunked", "identity", "gzip", "gzip, chunked", "chunked, chunked", "x", "", " chunked", "chunked\x0b"),
			g.one("0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"+smuggled, "5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n", "zz\r\n", "5\nhello\n0\n\n", smuggled)
	case 2:
		return g.one("X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "Via: 1.1 x", "X-Real-Ip: 1.2.3.4", "Origin: http://localhost", "Origin: http://evil.example", "Origin: null",
			"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "X-Holdfast-Token: right-token", "X-Holdfast-Token: wrong", "X-Holdfast-Token: ", "Expect: 100-continue",
			"Expect: x", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Authorization: Bearer x", "Cookie: a=b", "Range: bytes=0-1", "If-Match: *",
			"If-Modified-Since: Wed, 21 Oct 2030 07:28:00 GMT", "TE: trailers", "Trailer: X", "X-Http-Method-Override: DELETE", "CF-Ray: 1", "Accept-Encoding: gzip", "Last-Event-ID: x:1"), ""
	case 3:
		return g.one("no colon", ": no name", "Host : localhost", "Host\t: localhost", " Host: localhost", "\tX: y", "Hos\x00t: x", "Ho st: x", "Hößt: x", "Host:localhost", "A: b\r\n c", "A: b\r\n\tc: d",
			"A: b\rC: d", "A: b\nC: d", "A\r: b", "X:\r\n y", "(x): y", "X\x7f: y", "Host", "Accept;q=1: x", "Accept\r: x", "hoſt: x", "accept-\rncoding: x"), ""
	}
	if g.chance(300) {
		// From 16 to 28 KiB it depends on how its reads fall whether net/http takes a head.
		return "X-Long: " + strings.Repeat("x", g.IntN(6<<10)+g.IntN(2)*28<<10), ""
	}
	return "User-Agent: " + strings.Repeat("x", g.IntN(5000)), ""
}
