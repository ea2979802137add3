package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// rpcTimeout bounds the work on a route that changes something.
const rpcTimeout = 10 * time.Second

// StatusTimeout is how long a member may take to report its state.
const StatusTimeout = time.Second

// HandleGet registers a route that members may call; f reads the query and PeerFrom of the request.
func (c *Cluster) HandleGet(path string, f func(*http.Request) (any, error)) {
	c.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		writeReply(w, r, v, err)
	})
}

// HandlePost registers a route that decodes its body into In. f has 10 seconds.
func HandlePost[In any](c *Cluster, path string, f func(context.Context, pki.Peer, In) (any, error)) {
	c.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := decodeAndCall(w, r, f)
		writeReply(w, r, v, err)
	})
}

// Routes are what members may call, for the cluster port.
func (c *Cluster) Routes() http.Handler { return c.mux }

// HandleAPI serves the admin API for members below /api/.
func (c *Cluster) HandleAPI(api http.Handler) { c.mux.Handle("/api/", api) }

func decodeAndCall[In any](w http.ResponseWriter, r *http.Request, f func(context.Context, pki.Peer, In) (any, error)) (any, error) {
	p, ok := transport.PeerFrom(r.Context())
	if !ok {
		return nil, conf.Errorf(conf.CodeDenied, "no certificate")
	}
	var in In
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, conf.MaxDocument)).Decode(&in); err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "the request does not decode: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), callerKey{}, r.RemoteAddr), rpcTimeout)
	defer cancel()
	return f(ctx, p, in)
}

type callerKey struct{}

// CallerHost is the address at the other end of the connection of a request, for a route
// of HandlePost; the zero address when it is not known.
func CallerHost(ctx context.Context) netip.Addr {
	addr, _ := ctx.Value(callerKey{}).(string)
	ap, _ := netip.ParseAddrPort(addr)
	return ap.Addr().Unmap().WithZone("")
}

func writeReply(w http.ResponseWriter, r *http.Request, v any, err error) {
	if httperror.ClientGone(r.Context(), err) {
		httperror.Abandon()
	}
	if err != nil {
		httperror.New(err).Write(w)
		return
	}
	httperror.WriteJSON(w, http.StatusOK, v)
}

// Call asks another member over the cluster port: a GET without in, a POST with it. It
// decodes the reply into out, unless that is nil. An error of the member keeps its code
// and hint; httperror.IsNoRoute reports a build that lacks the route.
func (c *Cluster) Call(ctx context.Context, node, path string, in, out any) error {
	var body io.Reader
	method := http.MethodGet
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, method = bytes.NewReader(data), http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://member"+path, body)
	if err != nil {
		return err
	}
	began := time.Now()
	resp, err := c.Port.Client(node).Do(req)
	if err == nil {
		compareClocks(c, node, began, resp.Header)
	}
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which means nothing to a person
		}
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, conf.MaxDocument))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return httperror.Read(resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
