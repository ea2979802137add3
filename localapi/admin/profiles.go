package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ProfileReader reads profiles.
type ProfileReader interface {
	Profiles(ctx context.Context) ([]conf.Profile, error)
	Profile(ctx context.Context, name string) (conf.Profile, error)
}

// ProfileEditor changes profiles.
type ProfileEditor interface {
	// SaveProfile stores p. With p.Services nil it saves the stored values that
	// the services in of have now, or all services when of is empty.
	SaveProfile(ctx context.Context, who conf.Principal, p conf.Profile, of []string, reason, requestID string) (conf.Profile, error)
	// ImportProfile stores p with the values that it has, and lists those that their
	// services do not accept.
	ImportProfile(ctx context.Context, who conf.Principal, p conf.Profile, reason, requestID string) (conf.Profile, []conf.StaleProfile, error)
	// ActivateProfile makes the values of the profile the stored values of its
	// services, all or none.
	ActivateProfile(ctx context.Context, who conf.Principal, name, reason, requestID, rollout string) ([]conf.Outcome, error)
	DeleteProfile(ctx context.Context, who conf.Principal, name, reason, requestID string) error
}

// profileRoom reads, saves and activates profiles.
type profileRoom struct {
	profiles ProfileReader
	editor   ProfileEditor
	ids      requestIDs
}

func (p *profileRoom) routes() []Route {
	const one = "/api/config/profiles/:name"
	return []Route{
		{
			Name: "listProfiles", Method: http.MethodGet, Path: "/api/config/profiles", Role: conf.RoleRead, Summary: "List the profiles",
			Query: []string{"consistent"}, handle: p.list,
		},
		{
			Name: "getProfile", Method: http.MethodGet, Path: one, Role: conf.RoleRead, Summary: "Read a profile",
			Query:  []string{"consistent"},
			handle: func(c *call) (reply, error) { return answer(p.profiles.Profile(c.r.Context(), profileOf(c))) }, audit: true,
		},
		{
			Name: "putProfile", Method: http.MethodPut, Path: one, Role: conf.RoleWrite, Summary: "Save a profile",
			Query: []string{"service", "reason"}, handle: decoded(p.put), writes: true, body: documentBody, optional: true,
		},
		{
			Name: "deleteProfile", Method: http.MethodDelete, Path: one, Role: conf.RoleWrite, Summary: "Delete a profile",
			Query: []string{"reason"}, handle: p.remove, writes: true,
		},
		{
			Name: "activateProfile", Method: http.MethodPost, Path: one + "/activate", Role: conf.RoleWrite,
			Summary: "Put the values of a profile into effect",
			Query:   []string{"reason", "rollout"}, handle: decoded(p.activate), writes: true, body: smallBody, optional: true,
		},
	}
}

func profileOf(c *call) string { return c.params.ByName("name") }

func (p *profileRoom) list(c *call) (reply, error) {
	list, err := p.profiles.Profiles(c.r.Context())
	return listed("profiles", list, err)
}

type profileRequest struct {
	Description string                     `json:"description"`
	Services    map[string]json.RawMessage `json:"services"`
	KeepStale   bool                       `json:"keep_stale"`
	Reason      string                     `json:"reason"`
}

type profileResponse struct {
	Success bool                `json:"success"`
	Profile conf.Profile        `json:"profile"`
	Stale   []conf.StaleProfile `json:"stale_profiles,omitempty"`
}

func (p *profileRoom) put(c *call, req profileRequest) (reply, error) {
	if len(req.Description) > conf.MaxReason {
		return reply{}, invalid("description", "has %d bytes, at most %d are allowed", len(req.Description), conf.MaxReason).WithHint("shorten it")
	}
	for _, name := range conf.SortedKeys(req.Services) {
		if err := conf.CheckService(name); err != nil {
			return reply{}, err
		}
		if err := object("services."+name, req.Services[name]); err != nil {
			return reply{}, err
		}
	}
	var of []string
	if c.query.Has("service") {
		if req.Services != nil {
			return reply{}, conf.Errorf(conf.CodeMalformed, "both ?service= and services in the body are given").
				WithHint("send the values, or name the services whose present values to save")
		}
		of = strings.Split(c.query.Get("service"), ",")
		for _, s := range of {
			if err := conf.CheckService(s); err != nil {
				return reply{}, err
			}
		}
	}
	reason, id, err := p.ids.why(c, req.Reason)
	if err != nil {
		return reply{}, err
	}
	in := conf.Profile{Name: profileOf(c), Description: req.Description, Services: req.Services}
	if req.KeepStale {
		if req.Services == nil {
			return reply{}, invalid("keep_stale", "goes with services").WithHint("send the values of the profile, or leave keep_stale out")
		}
		saved, stale, err := p.editor.ImportProfile(c.r.Context(), c.who, in, reason, id)
		return answer(profileResponse{Success: true, Profile: saved, Stale: stale}, err)
	}
	saved, err := p.editor.SaveProfile(c.r.Context(), c.who, in, of, reason, id)
	return answer(profileResponse{Success: true, Profile: saved}, err)
}

func (p *profileRoom) remove(c *call) (reply, error) {
	reason, id, err := p.ids.why(c, "")
	if err != nil {
		return reply{}, err
	}
	return done(p.editor.DeleteProfile(c.r.Context(), c.who, profileOf(c), reason, id))
}

type activateRequest struct {
	Reason string `json:"reason"`
}

type activateResponse struct {
	Success  bool              `json:"success"`
	Services []activateService `json:"services"`
}

type activateService struct {
	Service    string `json:"service"`
	NewVersion uint64 `json:"new_version"`
	Changed    bool   `json:"changed"`
}

func (p *profileRoom) activate(c *call, req activateRequest) (reply, error) {
	reason, id, err := p.ids.why(c, req.Reason)
	if err != nil {
		return reply{}, err
	}
	mode, err := c.rolloutMode(false)
	if err != nil {
		return reply{}, err
	}
	list, err := p.editor.ActivateProfile(c.r.Context(), c.who, profileOf(c), reason, id, mode)
	out := activateResponse{Success: true, Services: make([]activateService, len(list))}
	for i, o := range list {
		out.Services[i] = activateService{Service: o.Service, NewVersion: o.Version, Changed: o.Changed}
	}
	return answer(out, err)
}
