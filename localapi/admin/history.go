package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

var (
	complexities = []conf.Complexity{conf.Simple, conf.Advanced}
	types        = []conf.Type{
		conf.TypeString, conf.TypeInteger, conf.TypeFloat, conf.TypeBoolean, conf.TypeEnum, conf.TypePath, conf.TypeSecret,
	}
	actions = []string{"read", "write", "reveal_secret", "unauthorized"}
)

func oneOf[T ~string](key string, v T, allowed []T) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	list := strings.Join(names, ", ")
	return invalid(key, "%q is not one of %s", conf.Clip(string(v)), list).WithHint("use one of %s", list)
}

// Queries searches what is stored beside the current documents. Filters arrive
// checked, with their limits filled in.
type Queries interface {
	Search(ctx context.Context, req conf.SearchRequest) (conf.SearchResponse, error)
	History(ctx context.Context, f conf.HistoryFilter) (conf.HistoryPage, error)
	AccessLog(ctx context.Context, f conf.AccessFilter) (conf.AccessPage, error)
}

// historyRoom searches values and earlier changes.
type historyRoom struct{ queries Queries }

func (h *historyRoom) routes() []Route {
	return []Route{
		{
			Name: "search", Method: http.MethodPost, Path: "/api/config/search", Role: conf.RoleRead,
			Summary: "Search keys, values and descriptions of all services",
			Query:   []string{"consistent"}, handle: decoded(h.search), body: smallBody, audit: true,
		},
		{
			Name: "history", Method: http.MethodGet, Path: "/api/config/history", Role: conf.RoleRead, Summary: "Who changed which key, when and why",
			Query:  []string{"service", "key", "user", "since", "until", "version", "limit", "offset", "consistent"},
			handle: h.history, audit: true,
		},
	}
}

func (h *historyRoom) search(c *call, req conf.SearchRequest) (reply, error) {
	if len(req.Query) > conf.MaxReason {
		return reply{}, invalid("query", "has %d bytes, at most %d are allowed", len(req.Query), conf.MaxReason).WithHint("shorten it")
	}
	if s := req.Service; s != nil {
		if err := conf.CheckService(*s); err != nil {
			return reply{}, err
		}
		c.audit = *s
	}
	if s := req.Complexity; s != nil {
		if err := oneOf("complexity_filter", *s, complexities); err != nil {
			return reply{}, err
		}
	}
	if s := req.Type; s != nil {
		if err := oneOf("type_filter", *s, types); err != nil {
			return reply{}, err
		}
	}
	if req.Limit == 0 {
		req.Limit = defaultLimit
	}
	if req.Limit < 1 || req.Limit > maxLimit {
		return reply{}, invalid("limit", "must be from 1 to %d", maxLimit).WithHint("page with offset")
	}
	if req.Offset < 0 || req.Offset > maxOffset {
		return reply{}, invalid("offset", "must be from 0 to %d", maxOffset).WithHint("start at 0")
	}
	out, err := h.queries.Search(c.r.Context(), req)
	if out.Results == nil {
		out.Results = []conf.Item{}
	}
	return answer(out, err)
}

func (h *historyRoom) history(c *call) (reply, error) {
	f := conf.HistoryFilter{Service: c.query.Get("service"), Key: conf.PlainKey(c.query.Get("key")), User: c.query.Get("user")}
	if err := c.serviceFilter(f.Service); err != nil {
		return reply{}, err
	}
	if f.Key != "" {
		if err := conf.CheckAnyKey(f.Key); err != nil {
			return reply{}, err
		}
	}
	if err := checkUser(f.User); err != nil {
		return reply{}, err
	}
	var err error
	if f.Version, err = c.number("version", 1, conf.MaxInteger, 0); err != nil {
		return reply{}, err
	}
	if f.Since, f.Until, err = c.window(); err != nil {
		return reply{}, err
	}
	if f.Limit, f.Offset, err = c.page(); err != nil {
		return reply{}, err
	}
	out, err := h.queries.History(c.r.Context(), f)
	if out.Results == nil {
		out.Results = []conf.HistoryEntry{}
	}
	return answer(out, err)
}

// accessRoom reads the access log.
type accessRoom struct{ queries Queries }

func (a *accessRoom) routes() []Route {
	return []Route{{
		Name: "accessLog", Method: http.MethodGet, Path: "/api/config/access", Role: conf.RoleWrite,
		Summary: "The access log: who read, changed or was refused",
		Query:   []string{"user", "action", "service", "since", "until", "limit", "offset"},
		handle:  a.list, audit: true,
	}}
}

func (a *accessRoom) list(c *call) (reply, error) {
	f := conf.AccessFilter{User: c.query.Get("user"), Action: c.query.Get("action"), Service: c.query.Get("service")}
	if err := c.serviceFilter(f.Service); err != nil {
		return reply{}, err
	}
	if f.Action != "" {
		if err := oneOf("action", f.Action, actions); err != nil {
			return reply{}, err
		}
	}
	if err := checkUser(f.User); err != nil {
		return reply{}, err
	}
	var err error
	if f.Since, f.Until, err = c.window(); err != nil {
		return reply{}, err
	}
	if f.Limit, f.Offset, err = c.page(); err != nil {
		return reply{}, err
	}
	out, err := a.queries.AccessLog(c.r.Context(), f)
	if out.Results == nil {
		out.Results = []conf.Access{}
	}
	return answer(out, err)
}

func (c *call) serviceFilter(s string) error {
	if s == "" {
		return nil
	}
	c.audit = s
	return conf.CheckService(s)
}

func checkUser(s string) error {
	if len(s) > conf.MaxName {
		return invalid("user", "has %d bytes, at most %d are allowed", len(s), conf.MaxName).WithHint("give the name as history shows it")
	}
	return nil
}
