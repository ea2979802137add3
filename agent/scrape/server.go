package scrape

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// What the address may take.
const (
	maxConnections = 32
	maxOfSource    = 8
	maxInFlight    = 4
	timeout        = 10 * time.Second
)

// Server answers /metrics at an address of its own. A nil Server is off.
type Server struct {
	listener *connlimit.Listener
	server   *http.Server
	log      *slog.Logger
}

// New listens at addr; "" and "none" are off. An address that cannot be had is logged, and
// is off too: an agent that is not measured still serves.
func New(addr string, from prometheus.Gatherer, log *slog.Logger) *Server {
	if addr == "" || addr == "none" {
		return nil
	}
	l, err := process.ListenHost(addr, "CONFIG_METRICS_ADDR", log)
	if err != nil {
		log.Warn("the metrics are at the local API only: their own address is not usable; set CONFIG_METRICS_ADDR", "addr", addr, "err", err)
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxInFlight, Timeout: timeout,
	}))
	log.Info("serving metrics", "url", "http://"+process.Reachable(l.Addr())+"/metrics")
	return &Server{
		listener: connlimit.Listen(l, connlimit.Limits{Max: maxConnections, PerSource: maxOfSource, LoopbackExempt: true}, func() {}),
		server: &http.Server{
			Handler: mux, ReadTimeout: timeout, WriteTimeout: 2 * timeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // of connections: anybody can break one
		},
		log: log,
	}
}

// Addr is where it listens; nil when it is off.
func (s *Server) Addr() net.Addr {
	if s == nil {
		return nil
	}
	return s.listener.Addr()
}

// Run serves until ctx ends, and then lets requests in progress end, for a second at most.
func (s *Server) Run(ctx context.Context) {
	if s == nil {
		return
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.server.Shutdown(grace) != nil {
			_ = s.server.Close()
		}
	}()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("the metrics are not served at their own address any more", "err", err)
		<-ctx.Done()
	}
	<-stopped
	s.listener.Wait()
}

// Close closes the address of a Server that does not run.
func (s *Server) Close() {
	if s != nil {
		_ = s.listener.Close()
	}
}
