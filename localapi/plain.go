package localapi

import (
	"net"
	"net/http"

	"github.com/holdfast-config/holdfast/localapi/front"
)

// plainReads is what the front has of the server: what serveResource does for a whole
// document, without net/http.
type plainReads struct{ *Server }

// plainCaller is the caller of one connection.
type plainCaller struct {
	*Server
	at      net.Addr
	onUnix  bool
	trusted bool
	asked   [1]string
}

// Open implements front.Reads.
func (s plainReads) Open(c net.Conn) front.Caller {
	p := newPeer(c)
	return &plainCaller{Server: s.Server, at: c.LocalAddr(), onUnix: p != nil, trusted: s.guard.trustedPeer(p)}
}

// Host implements front.Caller.
func (c *plainCaller) Host(host string) bool { return c.onUnix || c.guard.nameAllowed(host, c.at) }

// Answer implements front.Caller. The headers are in the order in which net/http writes
// them.
func (c *plainCaller) Answer(b []byte, r *front.Request) (head, body []byte, ok bool) {
	t := resource{service: c.opts.Service, trusted: c.trusted}
	if len(r.Path) > len(documentPrefix) {
		t.service = r.Path[len(documentPrefix):]
	}
	doc, rep, _, e := c.lookup(&t)
	if e != nil {
		return nil, nil, false
	}
	st := c.source.State()
	if st == nil {
		st = &State{}
	}
	if !r.Head {
		rep.read.note()
	}
	status := http.StatusOK
	if r.Tags != "" {
		if c.asked[0] = r.Tags; MatchesTag(c.asked[:], rep.tag) {
			status = http.StatusNotModified
		}
	}
	c.metrics.count(routeDocument, status)
	cache := cacheRevalidate
	if rep.secret {
		cache = cacheNever
	}
	if status == http.StatusOK {
		b = append(b, "HTTP/1.1 200 OK"...)
		b = appendField(b, "\r\nCache-Control: ", cache)
		b = appendField(b, "\r\nContent-Length: ", rep.length)
		b = appendField(b, "\r\nContent-Type: ", rep.contentType)
		if !r.Head {
			body = rep.body
		}
	} else {
		b = append(b, "HTTP/1.1 304 Not Modified"...)
		b = appendField(b, "\r\nCache-Control: ", cache)
	}
	b = appendField(b, "\r\nEtag: ", rep.etag)
	b = appendField(b, "\r\nX-Config-Age: ", st.age)
	b = appendField(b, "\r\nX-Config-Epoch: ", doc.epochHeader)
	b = appendField(b, "\r\nX-Config-Source: ", st.source)
	b = appendField(b, "\r\nX-Config-Version: ", doc.versionHeader)
	b = appendField(b, "\r\nX-Content-Type-Options: ", noSniff)
	b = append(b, "\r\nDate: "...)
	b = append(b, r.Date...)
	return append(b, "\r\n\r\n"...), body, true
}

// appendField adds a header, or nothing without a value.
func appendField(b []byte, name string, value []string) []byte {
	if len(value) == 0 {
		return b
	}
	return append(append(b, name...), value[0]...)
}
