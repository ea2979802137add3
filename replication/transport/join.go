package transport

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const (
	joinPath     = "/join"
	maxJoinBody  = 16 << 10
	maxJoinReply = 4 << 20
)

// Joiner admits agents. It is called for requests that are well formed and whose CSR is
// signed by its key. It must do the rest: CheckSecret with the newest stored token,
// reject the node id of another agent, count the use through Raft, and issue the
// certificate (CA.Issue).
//
// A joiner retries when a response was lost: the same token and KeyHash must count
// once. A rejected token is a *TokenError; of other errors the joiner gets code, message
// and hint.
type Joiner interface {
	Join(ctx context.Context, r JoinRequest) (JoinGrant, error)
}

// JoinRequest is the request of a joiner. Its JSON form may be forwarded to the leader.
type JoinRequest struct {
	TokenID   string `json:"token_id"`
	Secret    string `json:"secret"`
	CSR       []byte `json:"csr"` // DER
	NodeID    string `json:"node_id"`
	Version   string `json:"version"`         // of the agent
	Advertise string `json:"advertise"`       // host:port of its cluster port
	Epoch     string `json:"epoch,omitempty"` // of the data that it has, if any
}

// KeyHash returns the lower-case hex SHA-256 of the joiner's public key, which identifies
// a retry; "" if the CSR is malformed.
func (r JoinRequest) KeyHash() string {
	hash, _ := pki.KeyHash(r.CSR)
	return hash
}

// Check returns an error if the request is malformed. It does not check the token.
func (r JoinRequest) Check() error {
	if _, err := pki.KeyHash(r.CSR); err != nil {
		return err
	}
	if err := conf.CheckNode(r.NodeID); err != nil {
		return err
	}
	for name, s := range map[string]string{"version": r.Version, "epoch": r.Epoch} {
		if !printable(s, 128) {
			return conf.Errorf(conf.CodeInvalid, "bad %s", name)
		}
	}
	if host, port, err := net.SplitHostPort(r.Advertise); err != nil || host == "" || port == "" || !printable(r.Advertise, 300) {
		return conf.Errorf(conf.CodeInvalid, "bad address %.80q", r.Advertise).
			WithHint("set the address at which other members reach this agent, as host:port")
	}
	return nil
}

func printable(s string, max int) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= max
}

// JoinGrant is the response to a joiner.
type JoinGrant struct {
	Certificate []byte       `json:"certificate"` // DER
	CAs         [][]byte     `json:"cas"`         // DER; the one that the token names among them
	ClusterID   string       `json:"cluster_id"`
	Epoch       string       `json:"epoch"`
	Members     []MemberAddr `json:"members"`
	Keys        []byte       `json:"keys,omitempty"`   // key material, opaque here
	CAKey       []byte       `json:"ca_key,omitempty"` // PEM; for a server
}

// MemberAddr is the address of a member.
type MemberAddr struct {
	NodeID string   `json:"node_id"`
	Role   pki.Role `json:"role"`
	Addr   string   `json:"addr"`
}

// DecodeJoinRequest reads the body of a join, strictly, and checks it.
func DecodeJoinRequest(body []byte) (JoinRequest, error) {
	var r JoinRequest
	if err := conf.DecodeStrict(body, maxJoinBody, &r); err != nil {
		return JoinRequest{}, err
	}
	return r, r.Check()
}

// joinHandler answers joins.
type joinHandler struct {
	t      *Transport
	failed *failureLimiter
}

func (t *Transport) newJoinSide() *httpSide {
	s := t.newHTTPSide(&joinHandler{t, newFailureLimiter(t.opts.Limits.FailedJoins, t.opts.Limits.FailedJoinEvery)})
	s.server.SetKeepAlivesEnabled(false)
	s.server.ReadTimeout = headerTimeout * 2
	s.server.WriteTimeout = t.opts.Limits.Join
	s.server.MaxHeaderBytes = 8 << 10
	return s
}

func (h *joinHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, source := h.t, sourceIn(r.RemoteAddr)
	if !h.failed.take(source, time.Now()) {
		t.reject(Refused{Reason: ReasonJoinRate, Protocol: ProtoJoin, Source: r.RemoteAddr})
		w.Header().Set("Retry-After", strconv.Itoa(int(t.opts.Limits.FailedJoinEvery/time.Second)+1))
		writeError(w, conf.Errorf(conf.CodeRateLimited, "too many failed joins from this address").WithHint("wait a minute and retry"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.opts.Limits.Join)
	defer cancel()
	req, grant, err := h.answer(ctx, w, r)
	if !countsAsFailure(err) {
		h.failed.giveBack(source)
	}
	if err == nil {
		httperror.WriteJSON(w, http.StatusOK, grant)
		return
	}
	if te, ok := errors.AsType[*TokenError](err); ok {
		t.reject(Refused{
			Reason: ReasonJoinToken, Protocol: ProtoJoin, Source: r.RemoteAddr,
			Token: te.Reason, TokenID: req.TokenID, NodeID: req.NodeID, Err: err,
		})
	}
	writeError(w, err)
}

// countsAsFailure selects the errors that a client causes that guesses tokens. Faults of
// this agent or the cluster do not count against the joiner.
func countsAsFailure(err error) bool {
	switch conf.CodeOf(err) {
	case conf.CodeDenied, conf.CodeMalformed, conf.CodeInvalid, conf.CodeTooLarge, conf.CodeMethod, conf.CodeNotFound, conf.CodeUnauthenticated:
		return true
	}
	return false
}

func (h *joinHandler) answer(ctx context.Context, w http.ResponseWriter, r *http.Request) (JoinRequest, JoinGrant, error) {
	body, err := readPost(w, r, joinPath, maxJoinBody)
	if err != nil {
		return JoinRequest{}, JoinGrant{}, err
	}
	req, err := DecodeJoinRequest(body)
	if err != nil {
		return JoinRequest{}, JoinGrant{}, err
	}
	if !tokenIDAndSecret(req) {
		return req, JoinGrant{}, &TokenError{TokenUnknown}
	}
	if req.NodeID == h.t.Identity().NodeID {
		return req, JoinGrant{}, conf.Errorf(conf.CodeConflict, "the node id %s is that of another agent", req.NodeID).
			WithHint("set another CONFIG_NODE_ID")
	}
	grant, err := h.t.opts.Joiner.Join(ctx, req)
	return req, grant, err
}

func tokenIDAndSecret(r JoinRequest) bool {
	_, err := ParseToken(Token{CAHash: HashSecret(""), ID: r.TokenID, Secret: r.Secret}.String())
	return err == nil
}

// readPost reads the body of a POST of JSON to one path.
func readPost(w http.ResponseWriter, r *http.Request, path string, max int64) ([]byte, error) {
	if r.URL.Path != path {
		return nil, conf.Errorf(conf.CodeNotFound, "no such call")
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, conf.Errorf(conf.CodeMethod, "only POST is allowed")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, conf.Errorf(conf.CodeMalformed, "the body must be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, max))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, conf.Errorf(conf.CodeTooLarge, "the body is over the limit of %d bytes", max)
	}
	if err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "reading the body: %w", err)
	}
	return body, nil
}

// writeError sends what the other side may see: the message, not the causes,
// which may contain paths and addresses of this host.
func writeError(w http.ResponseWriter, err error) {
	httperror.Public(err, "see the log of the agent that answered").Write(w)
}

// readError is the reverse of writeError.
func readError(addr string, status int, body []byte) error {
	err := httperror.Read(status, body)
	if _, ok := errors.AsType[*httperror.StatusError](err); ok {
		return conf.Errorf(conf.CodeInternal, "the agent at %s answered %d without a reason", addr, status)
	}
	return err
}

func sourceIn(remote string) netip.Addr { return connlimit.Source(remote).Addr() }

// failureLimiter limits the failed joins of one source by a token bucket. A join counts
// as failed until it is given back.
type failureLimiter struct {
	burst float64
	every time.Duration

	mu      sync.Mutex
	sources map[netip.Addr]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxSources bounds the memory of a failureLimiter.
const maxSources = 4096

func newFailureLimiter(burst int, every time.Duration) *failureLimiter {
	return &failureLimiter{burst: float64(burst), every: every, sources: map[netip.Addr]bucket{}}
}

func (f *failureLimiter) take(source netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.sources[source]
	if !ok {
		f.makeRoom(now)
		b = bucket{f.burst, now}
	}
	b = f.filled(b, now)
	if b.left < 1 {
		return false
	}
	b.left--
	f.sources[source] = b
	return true
}

func (f *failureLimiter) giveBack(source netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.sources[source]; ok {
		b.left = min(b.left+1, f.burst)
		f.sources[source] = b
	}
}

func (f *failureLimiter) filled(b bucket, now time.Time) bucket {
	more := float64(now.Sub(b.at)) / float64(f.every)
	return bucket{min(b.left+max(more, 0), f.burst), now}
}

// makeRoom removes the sources without failures, else any.
func (f *failureLimiter) makeRoom(now time.Time) {
	if len(f.sources) < maxSources {
		return
	}
	for a, b := range f.sources {
		if f.filled(b, now).left >= f.burst {
			delete(f.sources, a)
		}
	}
	for a := range f.sources {
		if len(f.sources) < maxSources {
			return
		}
		delete(f.sources, a)
	}
}
